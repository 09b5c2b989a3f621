//! The manual pages: what the sources in `docs/man/source` say, as files of `docs/man`.

use std::path::{Path, PathBuf};

use daemon::manual::{Manual, roff};

/// The folder of the pages.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man")
}

/// Every source, read; in the order of their names.
///
/// # Panics
/// If a source cannot be read.
pub fn sources() -> Vec<Manual> {
    let folder = folder().join("source");
    let entries = std::fs::read_dir(&folder).expect("the folder of the sources is there");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a source is text");
        let manual = Manual::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(path.file_name(), Some(format!("{}.{}.txt", manual.name, manual.section).as_ref()));
        manual
    };
    paths.iter().map(read).collect()
}

/// Each page: its file name, and its text.
pub fn pages() -> Vec<(String, String)> {
    let page = |manual: &Manual| (format!("{}.{}", manual.name, manual.section), roff::page(manual));
    sources().iter().map(page).collect()
}

//! What `memory/show` prints: numbers of the things that take memory.

/// One line of `name:value`, by name; values that are zero are left out where OVS leaves them out, by the caller.
pub fn text(usage: &[(String, u64)]) -> String {
    let mut usage: Vec<_> = usage.iter().collect();
    usage.sort();
    let words: Vec<String> = usage.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    words.join(" ") + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_line_by_name() {
        assert_eq!(super::text(&[("b".to_owned(), 2), ("a".to_owned(), 1)]), "a:1 b:2\n");
    }
}

//! What a trace tells of a translation: a tree of texts.

use std::fmt::Write;

/// What a node tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Bridge,
    Table,
    Bucket,
    Thaw,
    Action,
    Detail,
    /// A worrisome situation.
    Warn,
    /// An error, worth logging.
    Error,
}

impl Kind {
    /// Whether nodes of the kind are indented even if they are the last of a list.
    fn is_terminal(self) -> bool {
        matches!(self, Self::Action | Self::Detail | Self::Warn | Self::Error | Self::Bucket)
    }
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    text: String,
    below: Vec<usize>,
}

/// A place in a [`Tree`] under which nodes are put.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Place(Option<usize>);

/// A trace's tree.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    top: Vec<usize>,
}

impl Tree {
    /// Puts a node under `place`; gives the place under it.
    pub fn put(&mut self, place: Place, kind: Kind, text: String) -> Place {
        let index = self.nodes.len();
        self.nodes.push(Node { kind, text, below: Vec::new() });
        match place.0 {
            Some(above) => self.nodes[above].below.push(index),
            None => self.top.push(index),
        }
        Place(Some(index))
    }

    /// Appends the tree's text.
    pub fn print(&self, out: &mut String) {
        self.print_list(&self.top, 0, out);
    }

    fn print_list(&self, list: &[usize], level: usize, out: &mut String) {
        for (i, &index) in list.iter().enumerate() {
            let node = &self.nodes[index];
            if node.kind == Kind::Bridge {
                out.push('\n');
            }
            // What has a sibling after it is indented, so that the eye follows the straight line down to the last one.
            let more = usize::from(i + 1 < list.len() || node.kind.is_terminal());
            let indent = " ".repeat((level + more) * 4);
            let text = &node.text;
            let _ = match node.kind {
                Kind::Detail => writeln!(out, "{indent} -> {text}"),
                Kind::Warn => writeln!(out, "{indent} >> {text}"),
                Kind::Error => writeln!(out, "{indent} >>>> {text} <<<<"),
                Kind::Bridge => writeln!(out, "{indent}{text}\n{indent}{}", "-".repeat(text.len())),
                Kind::Table | Kind::Bucket | Kind::Thaw | Kind::Action => writeln!(out, "{indent}{text}"),
            };
            self.print_list(&node.below, level + more + more, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_list_is_not_indented_but_for_terminals() {
        let mut tree = Tree::default();
        let bridge = tree.put(Place::default(), Kind::Bridge, "bridge(\"br0\")".into());
        let first = tree.put(bridge, Kind::Table, " 0. priority 0".into());
        tree.put(first, Kind::Action, "resubmit(,1)".into());
        let second = tree.put(first, Kind::Table, " 1. No match.".into());
        tree.put(second, Kind::Action, "drop".into());
        tree.put(first, Kind::Detail, "more".into());
        let mut out = String::new();
        tree.print(&mut out);
        let expected = concat!(
            "\nbridge(\"br0\")\n-------------\n 0. priority 0\n    resubmit(,1)\n     1. No match.\n            drop\n",
            "     -> more\n"
        );
        assert_eq!(out, expected);
    }
}

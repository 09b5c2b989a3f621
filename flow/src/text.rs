//! Small pieces of text that flows, actions and cookies share.

/// Names of the set bits of `bits`, joined by `separator`; what has no name follows as one hexadecimal number. No bit
/// at all is `0`.
pub fn flags(bits: u32, name: impl Fn(u32) -> Option<&'static str>, separator: char) -> String {
    if bits == 0 {
        return "0".to_owned();
    }
    let mut parts = Vec::new();
    let mut unknown = 0;
    for bit in (0..u32::BITS).map(|shift| 1 << shift).filter(|bit| bits & bit != 0) {
        match name(bit) {
            Some(name) => parts.push(name.to_owned()),
            None => unknown |= bit,
        }
    }
    if unknown != 0 {
        parts.push(format!("{unknown:#x}"));
    }
    parts.join(&separator.to_string())
}

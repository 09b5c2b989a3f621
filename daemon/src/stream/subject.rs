//! The common name in a certificate: who a peer is, for roles (X.509, RFC 5280 section 4.1; DER, X.690 section 8).

/// The object identifier of `commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

mod tag {
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    pub const OBJECT: u8 = 0x06;
    /// The version, which old certificates lack.
    pub const VERSION: u8 = 0xa0;
    /// UTF8String, PrintableString, TeletexString, IA5String: bytes of text.
    pub const TEXT: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
}

/// The first common name of the subject of a certificate in DER; none if there is no text in it or a NUL.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = Reader(certificate).expect(tag::SEQUENCE)?;
    let mut body = Reader(Reader(certificate).expect(tag::SEQUENCE)?);
    if body.0.first() == Some(&tag::VERSION) {
        body.next()?;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        body.next()?;
    }
    let mut names = Reader(body.expect(tag::SEQUENCE)?);
    while let Some(set) = names.expect(tag::SET) {
        let mut attributes = Reader(set);
        while let Some(attribute) = attributes.expect(tag::SEQUENCE) {
            let mut attribute = Reader(attribute);
            if attribute.expect(tag::OBJECT)? == COMMON_NAME {
                let (kind, text) = attribute.next()?;
                let text = std::str::from_utf8(text).ok().filter(|text| !text.contains('\0'))?;
                return tag::TEXT.contains(&kind).then(|| text.to_owned());
            }
        }
    }
    None
}

/// What is left to read of DER.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[kind, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            ..0x80 => (usize::from(first), rest),
            _ => {
                let (bytes, rest) =
                    rest.split_at_checked(usize::from(first & 0x7f)).filter(|(b, _)| b.len() <= 4)?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((kind, content))
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, kind: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == kind).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("short");
        let long: &[u8] = if length < 0x80 { &[] } else { &[0x81] };
        [&[tag], long, &[length], &content].concat()
    }

    fn certificate(version: &[u8], kind: u8, name: &[u8]) -> Vec<u8> {
        let attribute = |oid: &[u8], text: &[u8]| {
            der(tag::SET, &[&der(tag::SEQUENCE, &[&der(tag::OBJECT, &[oid]), &der(kind, &[text])])])
        };
        let issuer = der(tag::SEQUENCE, &[&attribute(COMMON_NAME, b"the CA")]);
        let subject = der(
            tag::SEQUENCE,
            &[&attribute(&[0x55, 0x04, 0x0a], b"Open vSwitch"), &attribute(COMMON_NAME, name)],
        );
        let nothing = der(tag::SEQUENCE, &[]);
        let body = [version, &der(2, &[&[1]]), &nothing, &issuer, &nothing, &subject, &nothing].concat();
        der(tag::SEQUENCE, &[&der(tag::SEQUENCE, &[&body]), &nothing])
    }

    #[test]
    fn the_subject_is_found() {
        let version = der(tag::VERSION, &[&der(2, &[&[2]])]);
        let name = |certificate: &[u8]| common_name(certificate);
        assert_eq!(name(&certificate(&version, 0x0c, b"client-1")).as_deref(), Some("client-1"));
        assert_eq!(name(&certificate(&[], 0x13, b"client-1")).as_deref(), Some("client-1"));
        assert_eq!(name(&certificate(&[], 0x0c, b"client\0-1")), None);
        assert_eq!(name(&certificate(&[], 0x04, b"client-1")), None);
        assert_eq!(name(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            common_name(&bytes);
        }
    }
}

//! The Internet checksum (RFC 1071), its incremental update (RFC 1624) and SCTP's CRC-32c (RFC 9260 appendix A).

/// A one's-complement sum being made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd last one counts as followed by zero.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (pairs, odd) = bytes.as_chunks::<2>();
        let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
        Self(self.0 + sum + odd.first().map_or(0, |&byte| u64::from(byte) << 8))
    }

    /// Adds one 16-bit word.
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// The checksum: the sum's complement.
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

/// The checksum of bytes.
pub fn of(bytes: &[u8]) -> u16 {
    Sum::default().bytes(bytes).finish()
}

/// The pseudo header of a transport over IPv4.
pub fn pseudo4(src: u32, dst: u32, proto: u8, len: u16) -> Sum {
    Sum::default().bytes(&src.to_be_bytes()).bytes(&dst.to_be_bytes()).word(proto.into()).word(len)
}

/// The pseudo header of a transport over IPv6.
pub fn pseudo6(src: &[u8; 16], dst: &[u8; 16], proto: u8, len: u16) -> Sum {
    Sum::default().bytes(src).bytes(dst).word(proto.into()).word(len)
}

/// The checksum after bytes at an even offset changed from `old` to `new`.
pub fn update(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let (removed, added) = (Sum::default().bytes(old).fold(), Sum::default().bytes(new).fold());
    Sum(u64::from(!checksum)).word(!removed).word(added).finish()
}

/// CRC-32c (Castagnoli), as SCTP puts it on the wire: little-endian.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)])
}

const CRC32C: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_vectors() {
        // RFC 1071 section 3.
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    proptest! {
        #[test]
        fn updating_equals_summing_again(mut bytes in proptest::collection::vec(any::<u8>(), 8..60), at in 0usize..4, new: [u8; 4]) {
            // Never all zero: the two zeros of one's complement would differ.
            bytes[6] = 1;
            let before = of(&bytes);
            let range = at / 2 * 2..at / 2 * 2 + 4;
            let updated = update(before, &bytes[range.clone()], &new);
            bytes[range].copy_from_slice(&new);
            prop_assert_eq!(updated, of(&bytes));
        }
    }
}

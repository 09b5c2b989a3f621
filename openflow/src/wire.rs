//! Reading and writing big-endian bytes.

use crate::error::OfError;

/// Reads big-endian integers and runs of bytes from the front of a slice. Running out is `OFPBRC_BAD_LEN`.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have not been read.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], OfError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(OfError::BrcBadLen)?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], OfError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(OfError::BrcBadLen)?;
        self.rest = tail;
        Ok(*head)
    }

    /// A reader of the next `n` bytes alone.
    pub fn sub(&mut self, n: usize) -> Result<Self, OfError> {
        self.bytes(n).map(Self::new)
    }

    /// Passes over `n` bytes.
    pub fn skip(&mut self, n: usize) -> Result<(), OfError> {
        self.bytes(n).map(|_| ())
    }

    pub fn u8(&mut self) -> Result<u8, OfError> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, OfError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, OfError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, OfError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A name in a field of `N` bytes, up to the first zero byte; other than UTF-8 becomes replacement characters.
    pub fn name<const N: usize>(&mut self) -> Result<String, OfError> {
        let field = self.array::<N>()?;
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(N);
        Ok(String::from_utf8_lossy(&field[..end]).into_owned())
    }
}

/// Appends big-endian integers and runs of bytes.
pub trait Put {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self;

    fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// `n` zero bytes.
    fn zeros(&mut self, n: usize) -> &mut Self {
        for _ in 0..n {
            self.u8(0);
        }
        self
    }

    /// `name`, cut to `width - 1` bytes and padded with zero bytes to `width`.
    fn name(&mut self, name: &str, width: usize) -> &mut Self {
        let n = name.len().min(width.saturating_sub(1));
        self.bytes(&name.as_bytes()[..n]).zeros(width - n)
    }
}

impl Put for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }
}

/// Overwrites the big-endian 16-bit number at `at`, which must have been written already.
pub fn set_u16(msg: &mut [u8], at: usize, value: u16) {
    msg[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Appends zero bytes until the part from `start` on is a multiple of 8 bytes long.
pub fn pad8(msg: &mut Vec<u8>, start: usize) {
    let n = (msg.len() - start).wrapping_neg() % 8;
    msg.zeros(n);
}

//! External data representation (RFC 4506): big-endian words of 32 bits.

use thiserror::Error;

/// What is wrong with encoded data; `at` counts bytes from the start of the datagram.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum XdrError {
    /// The data ends within a field.
    #[error("truncated at offset {at}")]
    Truncated { at: usize },
    /// A field has a value that it cannot have.
    #[error("{what} at offset {at}")]
    Invalid { at: usize, what: &'static str },
}

/// Reads words front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.data
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// An error here.
    pub fn invalid(&self, what: &'static str) -> XdrError {
        XdrError::Invalid { at: self.at, what }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], XdrError> {
        let (head, tail) = self.data.split_at_checked(len).ok_or(XdrError::Truncated { at: self.at })?;
        self.data = tail;
        self.at += len;
        Ok(head)
    }

    /// `N` bytes, without padding.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| XdrError::Truncated { at })
    }

    pub fn u32(&mut self) -> Result<u32, XdrError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, XdrError> {
        self.array().map(u64::from_be_bytes)
    }

    /// `len` bytes and their padding.
    pub fn fixed(&mut self, len: usize) -> Result<&'a [u8], XdrError> {
        let bytes = self.take(len)?;
        // Some agents leave out the padding at the very end.
        let padding = (len.next_multiple_of(4) - len).min(self.data.len());
        self.take(padding)?;
        Ok(bytes)
    }

    /// Bytes behind their length.
    pub fn opaque(&mut self) -> Result<&'a [u8], XdrError> {
        let len = self.u32()?;
        self.fixed(len as usize)
    }

    /// A reader of the next opaque bytes, whose offsets continue ours.
    pub fn sub(&mut self) -> Result<Reader<'a>, XdrError> {
        let at = self.at + 4;
        let data = self.opaque()?;
        Ok(Reader { data, at })
    }
}

/// Appends words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Bytes and their padding, without a length.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Bytes behind their length.
    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32).fixed(bytes)
    }
}

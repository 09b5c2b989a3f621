//! How a request to a datapath or a network device fails.

use sys::errno::Errno;

/// A failed request. The text is what OVS prints; [`Error::errno`] is what its C interface would return.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or we in its manner, refused.
    #[error("{0}")]
    Os(#[from] Errno),
    /// The kernel refused, and said why in its own words (an extended acknowledgement); [`Error::detail`] gives them.
    #[error("{errno}")]
    Refused { errno: Errno, text: Box<str> },
    /// The kernel sent what nobody understands; [`Error::detail`] says what and where.
    #[error("Protocol error")]
    Malformed(Box<str>),
    /// This datapath lacks what was asked for; named for the log.
    #[error("Operation not supported")]
    Unsupported(&'static str),
    /// A request that contradicts itself; the text says where.
    #[error("{0}")]
    Invalid(String),
    /// A device refuses its options; the text says why, for the `error` column.
    #[error("{text}")]
    Config { text: String, errno: Errno },
}

impl Error {
    /// The error number that stands for this error.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Os(errno) | Self::Refused { errno, .. } | Self::Config { errno, .. } => *errno,
            Self::Malformed(_) => Errno::EPROTO,
            Self::Unsupported(_) => Errno::EOPNOTSUPP,
            Self::Invalid(_) => Errno::EINVAL,
        }
    }

    /// What there is to say beyond the error number: the kernel's words, or what was malformed.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Refused { text, .. } | Self::Malformed(text) => Some(text),
            Self::Unsupported(what) => Some(what),
            Self::Os(_) | Self::Invalid(_) | Self::Config { .. } => None,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Os(error.into())
    }
}

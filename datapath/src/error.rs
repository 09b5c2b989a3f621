//! How a request to a datapath or a network device fails.

use sys::errno::Errno;

/// A failed request. The text is what OVS prints; [`Error::errno`] is what its C interface would return.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or we in its manner, refused.
    #[error("{0}")]
    Os(#[from] Errno),
    /// This datapath lacks what was asked for; named for the log.
    #[error("Operation not supported")]
    Unsupported(&'static str),
    /// A request that contradicts itself; the text says where.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The error number that stands for this error.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Os(errno) => *errno,
            Self::Unsupported(_) => Errno::EOPNOTSUPP,
            Self::Invalid(_) => Errno::EINVAL,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Os(error.into())
    }
}

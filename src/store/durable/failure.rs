//! What the library's failures come to: sorted by what has to be done about them.

use super::base::BaseError;

pub fn storage(error: lsm_tree::Error) -> BaseError {
    outside(error.into())
}

/// A failure of the library, sorted by what has to be done about it.
pub fn outside(error: fjall::Error) -> BaseError {
    match error {
        fjall::Error::Locked => BaseError::InUse,
        fjall::Error::InvalidVersion(found) => BaseError::Foreign(format!("{found:?}")),
        fjall::Error::Io(error) => io(error),
        fjall::Error::Storage(fjall::LsmError::Io(error)) => io(error),
        fjall::Error::Poisoned => BaseError::Io("an earlier write failed".to_owned()),
        error => BaseError::Damaged(error.to_string()),
    }
}

pub fn io(error: std::io::Error) -> BaseError {
    match error.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
            BaseError::Damaged(error.to_string())
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            BaseError::Full(error.to_string())
        }
        _ => BaseError::Io(error.to_string()),
    }
}

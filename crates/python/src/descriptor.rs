//! Descriptors that Python gives away.
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor over from Python, and closes it in the end.
pub fn given(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the caller (net/native.py) has made this descriptor for the call, and does not use it any more.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

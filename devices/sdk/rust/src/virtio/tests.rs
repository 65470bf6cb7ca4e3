//! The transport, with a device that copies what it may read to where it may write.

//! A device in the same process: an operation is a function call.

use super::{Carrier, LaneError, PostError, Request, Retirement};
use schema::lane::{Access, STRING_MAX};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What does operations, one at a time.
pub trait Serve: Send {
    /// Does the operation, makes it take effect, and returns its reply.
    fn serve(&mut self, access: &Access) -> u64;

    /// Copies what the last operation, a string load, gave.
    fn string(&self, into: &mut [u8; STRING_MAX]);
}

/// Calls a device of this process: the baseline that isolation is compared with. A device that never returns takes its
/// caller with it; deadlines mean nothing here.
pub struct InProcess {
    device: Arc<Mutex<dyn Serve>>,
    retirement: Arc<Retirement>,
    issued: u32,
}

impl InProcess {
    /// Calls this device. Its lock is shared with whoever lets it look at its queues.
    pub fn new(device: Arc<Mutex<dyn Serve>>) -> InProcess {
        InProcess { device, retirement: Retirement::new(None), issued: 0 }
    }

    fn serve(&mut self, request: &Request) -> Result<u64, LaneError> {
        if self.retirement.is_retired() {
            return Err(LaneError::Gone);
        }
        self.issued = self.issued.wrapping_add(1);
        let Request { operation, range, width, offset, value, now } = *request;
        let access = Access { sequence: self.issued, operation, range, width, offset, value, now };
        Ok(self.device.lock().unwrap_or_else(PoisonError::into_inner).serve(&access))
    }
}

impl Carrier for InProcess {
    fn make_room(&mut self, _: Duration) -> Result<(), LaneError> {
        Ok(())
    }

    fn call(&mut self, request: &Request, _: Duration) -> Result<u64, LaneError> {
        self.serve(request)
    }

    fn resume(&mut self, _: Duration) -> Result<u64, LaneError> {
        // No call is ever late.
        Err(LaneError::Gone)
    }

    fn take_string(&mut self, into: &mut [u8]) -> Result<(), LaneError> {
        let mut string = [0; STRING_MAX];
        self.device.lock().unwrap_or_else(PoisonError::into_inner).string(&mut string);
        into.copy_from_slice(&string[..into.len()]);
        Ok(())
    }

    fn take_ahead(&mut self, _: u32, _: &mut [u8]) -> bool {
        false
    }

    fn post(&mut self, request: &Request) -> Result<(), PostError> {
        self.serve(request)?;
        Ok(())
    }

    fn post_remembered(&mut self, request: &Request) -> Result<(), PostError> {
        self.post(request)
    }

    fn refresh(&mut self) -> Result<bool, LaneError> {
        Ok(true)
    }

    fn outstanding(&mut self) -> Result<usize, LaneError> {
        Ok(0)
    }

    fn issued(&self) -> u32 {
        self.issued
    }

    fn renew(&mut self) -> Result<(), LaneError> {
        // There is no host to be another.
        Err(LaneError::Gone)
    }

    fn retirement(&self) -> Arc<Retirement> {
        self.retirement.clone()
    }

    fn kind(&self) -> schema::lane::Carrier {
        schema::lane::Carrier::InProcess
    }
}

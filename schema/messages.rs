//! All messages, for what treats them alike.

use crate::control::{
    Command, Console, ConsoleOutput, Exchange, LogLines, Logs, Picture, Press, Screenshot, Status, StatusReport,
};
use crate::host::{Assign, Attach, Empty, Grants, Hello, Log, Manifests, Refusal, Seal};
use crate::lane::{Access, Answer};
use crate::play::{Changes, Play, Played, Turned};
use crate::sample::{Add, Door, Share, Shared, Sum};
use crate::vmm::{
    AttachDevice, Button, Counted, Counters, Drive, Driven, Late, Machine, Memory, Refresh, Renew, Retire, Start,
    Stopped,
};
use crate::{Body, Connection};
use std::fmt::Debug;

/// Something that is done with each kind of message.
pub trait ForEach {
    /// Does it with one; `name` is that of its struct in the schema.
    fn message<B: Body + PartialEq + Debug + 'static>(&mut self, name: &'static str);
}

/// Hands the list of all messages, in the order of their ordinals, to another macro.
macro_rules! with_messages {
    ($then:ident) => {
        $then! {
            Refusal,
            Empty,
            Connection,
            Hello,
            Assign,
            Manifests,
            Grants,
            Attach,
            Seal,
            Log,
            Machine,
            Memory,
            AttachDevice,
            Start,
            Retire,
            Button,
            Stopped,
            Late,
            Counters,
            Counted,
            Drive,
            Driven,
            Renew,
            Refresh,
            Play,
            Played,
            Changes,
            Turned,
            Command,
            Status,
            StatusReport,
            Logs,
            LogLines,
            Console,
            ConsoleOutput,
            Screenshot,
            Picture,
            Press,
            Exchange,
            Access,
            Answer,
            Share,
            Shared,
            Add,
            Sum,
            Door,
        }
    };
}
#[cfg(test)]
pub(crate) use with_messages;

macro_rules! calls {
    ($($message:ident),* $(,)?) => {
        /// Does something with every message that there is.
        pub fn for_each_message(each: &mut impl ForEach) {
            $(each.message::<$message>(stringify!($message));)*
        }
    };
}
with_messages!(calls);

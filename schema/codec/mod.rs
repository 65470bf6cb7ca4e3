//! From plain types to the wire and back.
//!
//! Each struct of the schema has a [`Record`], written out field by field: the compiler then notices when schema and plain
//! type part. A codec says three things: how many words a value needs, how it is written, how it is read and checked.

mod control;
mod display;
mod host;
mod lane;
mod manifest;
mod play;
mod sample;
#[cfg(test)]
mod tests;
mod vmm;

use crate::wire::imc_capnp as wire;
use crate::{BadBody, Connection, Handle, Kind, Lease, Rights};
use capnp::traits::{HasStructSize, OwnedStruct};
use capnp::{data_list, struct_list, text, text_list};

/// A struct of the schema and its plain type.
pub(crate) trait Record: Sized {
    /// What capnpc made of it.
    type Wire: OwnedStruct;

    /// Words that the value needs beside its own struct, or which of its fields is too long.
    fn measure(&self) -> Result<usize, BadBody>;
    /// Copies the value to the wire.
    fn write(&self, to: <Self::Wire as OwnedStruct>::Builder<'_>);
    /// Copies the value from the wire, checking as it goes.
    fn read(from: <Self::Wire as OwnedStruct>::Reader<'_>) -> Result<Self, BadBody>;
}

/// Words of the struct itself.
pub(crate) fn struct_words<R: Record>() -> usize {
    <<R::Wire as OwnedStruct>::Builder<'static> as HasStructSize>::STRUCT_SIZE.total() as usize
}

/// Makes a message body of a record.
macro_rules! body {
    ($plain:ty = $module:path, $ordinal:literal $(, aliases: $aliases:literal)? $(, handles: $handles:expr)?) => {
        const _: () = {
            use $module as module;
            impl $crate::Body for $plain {
                const ORDINAL: u16 = $ordinal;
                $(const ALIASES: bool = $aliases;)?
                const SCHEMA_ID: u64 = <module::Reader<'static> as capnp::traits::HasTypeId>::TYPE_ID;

                fn measure(&self) -> Result<usize, $crate::BadBody> {
                    let root_pointer = 1;
                    Ok(root_pointer + $crate::codec::struct_words::<Self>() + $crate::codec::Record::measure(self)?)
                }
                fn encode(&self, message: &mut $crate::Builder<'_>) {
                    $crate::codec::Record::write(self, message.init_root::<module::Builder<'_>>());
                }
                fn decode(message: &$crate::Reader<'_>) -> Result<Self, $crate::BadBody> {
                    $crate::codec::Record::read(message.get_root::<module::Reader<'_>>()?)
                }
                $(fn handles(&self) -> $crate::Handles {
                    let handles: fn(&Self) -> $crate::Handles = $handles;
                    handles(self)
                })?
            }
        };
    };
}
pub(crate) use body;

/// Makes a record of a struct without fields.
macro_rules! empty_record {
    ($plain:ident = $module:path) => {
        const _: () = {
            use $module as module;
            impl $crate::codec::Record for $plain {
                type Wire = module::Owned;
                fn measure(&self) -> Result<usize, $crate::BadBody> {
                    Ok(0)
                }
                fn write(&self, _: module::Builder<'_>) {}
                fn read(_: module::Reader<'_>) -> Result<Self, $crate::BadBody> {
                    Ok($plain)
                }
            }
        };
    };
}
pub(crate) use empty_record;

/// Translates an enum, whose names are the same on both sides; its zero and numbers from the future are refused.
macro_rules! enumeration {
    ($plain:ident = $wire:path; $($name:ident),*) => {
        impl $plain {
            pub(crate) fn to_wire(self) -> $wire {
                use $wire as Wire;
                match self {
                    $($plain::$name => Wire::$name,)*
                }
            }
            pub(crate) fn from_wire(
                field: &'static str,
                claimed: Result<$wire, capnp::NotInSchema>,
            ) -> Result<$plain, $crate::BadBody> {
                use $wire as Wire;
                match claimed {
                    $(Ok(Wire::$name) => Ok($plain::$name),)*
                    Ok(Wire::Invalid) | Err(capnp::NotInSchema(_)) => Err($crate::BadBody::Unknown(field)),
                }
            }
        }
    };
}
pub(crate) use enumeration;

/// How many words a field's content needs.
pub(crate) mod words {
    use super::{BadBody, Record, bounded, clip, struct_words};

    pub(crate) fn text(field: &'static str, text: &str, bound: usize) -> Result<usize, BadBody> {
        bounded(field, text.len(), bound)?;
        // A text ends with a zero byte.
        Ok((text.len() + 1).div_ceil(8))
    }

    pub(crate) fn clipped(text: &str, bound: usize) -> usize {
        (clip(text, bound).len() + 1).div_ceil(8)
    }

    pub(crate) fn texts(field: &'static str, all: &[String], count: usize, bound: usize) -> Result<usize, BadBody> {
        bounded(field, all.len(), count)?;
        all.iter().try_fold(all.len(), |sum, one| Ok(sum + text(field, one, bound)?))
    }

    pub(crate) fn data(field: &'static str, bytes: &[u8], bound: usize) -> Result<usize, BadBody> {
        bounded(field, bytes.len(), bound)?;
        Ok(bytes.len().div_ceil(8))
    }

    pub(crate) fn record<R: Record>(record: &R) -> Result<usize, BadBody> {
        Ok(struct_words::<R>() + record.measure()?)
    }

    pub(crate) fn list<R: Record>(field: &'static str, all: &[R], count: usize) -> Result<usize, BadBody> {
        bounded(field, all.len(), count)?;
        // A list of structs begins with a tag.
        all.iter().try_fold(1, |sum, one| Ok(sum + record(one)?))
    }
}

/// Refuses what is longer than its bound.
pub(crate) fn bounded(field: &'static str, length: usize, bound: usize) -> Result<(), BadBody> {
    if length > bound { Err(BadBody::TooLong { field, length, bound }) } else { Ok(()) }
}

/// The beginning of a sentence that is meant for people alone: better short than refused.
pub(crate) fn clip(text: &str, bound: usize) -> &str {
    &text[..text.floor_char_boundary(bound)]
}

/// Writes a list of structs.
pub(crate) fn write_list<R: Record>(all: &[R], mut to: struct_list::Builder<'_, R::Wire>) {
    for (index, one) in (0..).zip(all) {
        one.write(to.reborrow().get(index));
    }
}

/// Writes a list of texts.
pub(crate) fn write_texts(all: &[String], mut to: text_list::Builder<'_>) {
    for (index, one) in (0..).zip(all) {
        to.set(index, one.as_str());
    }
}

/// Reads a text of at most `bound` bytes.
pub(crate) fn read_text(
    field: &'static str,
    from: capnp::Result<text::Reader<'_>>,
    bound: usize,
) -> Result<String, BadBody> {
    let claimed = from?;
    bounded(field, claimed.len(), bound)?;
    Ok(claimed.to_str().map_err(|_| BadBody::NotText(field))?.to_owned())
}

/// Reads at most `bound` bytes.
pub(crate) fn read_data(field: &'static str, from: capnp::Result<&[u8]>, bound: usize) -> Result<Vec<u8>, BadBody> {
    let claimed = from?;
    bounded(field, claimed.len(), bound)?;
    Ok(claimed.to_vec())
}

/// Reads at most `count` structs.
pub(crate) fn read_list<R: Record>(
    field: &'static str,
    from: capnp::Result<struct_list::Reader<'_, R::Wire>>,
    count: usize,
) -> Result<Vec<R>, BadBody> {
    let claimed = from?;
    bounded(field, claimed.len() as usize, count)?;
    claimed.iter().map(R::read).collect()
}

/// Reads at most `count` texts of at most `bound` bytes each.
pub(crate) fn read_texts(
    field: &'static str,
    from: capnp::Result<text_list::Reader<'_>>,
    count: usize,
    bound: usize,
) -> Result<Vec<String>, BadBody> {
    let claimed = from?;
    bounded(field, claimed.len() as usize, count)?;
    claimed.iter().map(|one| read_text(field, one, bound)).collect()
}

/// Reads at most `count` blocks of at most `bound` bytes each.
pub(crate) fn read_blocks(
    field: &'static str,
    from: capnp::Result<data_list::Reader<'_>>,
    count: usize,
    bound: usize,
) -> Result<Vec<Vec<u8>>, BadBody> {
    let claimed = from?;
    bounded(field, claimed.len() as usize, count)?;
    claimed.iter().map(|one| read_data(field, one, bound)).collect()
}

enumeration!(Kind = wire::Kind; Region, Wake, File, Stream, Channel, Connect, Tap, Kvm, Packets, Socket, Listener);

impl Record for Handle {
    type Wire = wire::handle::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::handle::Builder<'_>) {
        to.set_slot(self.slot);
        to.set_kind(self.kind.to_wire());
        to.set_rights(self.rights.0);
        to.set_size(self.size);
    }
    fn read(from: wire::handle::Reader<'_>) -> Result<Self, BadBody> {
        let slot = from.get_slot();
        if usize::from(slot) >= crate::HANDLES_MAX {
            return Err(BadBody::OutOfRange("slot"));
        }
        let kind = Kind::from_wire("kind", from.get_kind())?;
        Ok(Handle { slot, kind, rights: read_rights(from.get_rights())?, size: from.get_size() })
    }
}

body!(Connection = wire::connection, 0x03, handles: |body| [body.end].into_iter().collect());

impl Record for Connection {
    type Wire = wire::connection::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::record(&self.end)
    }
    fn write(&self, to: wire::connection::Builder<'_>) {
        self.end.write(to.init_end());
    }
    fn read(from: wire::connection::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Connection { end: Handle::read(from.get_end()?)? })
    }
}

impl Record for Lease {
    type Wire = wire::lease::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::lease::Builder<'_>) {
        to.set_region(self.region);
        to.set_offset(self.offset);
        to.set_length(self.length);
        to.set_rights(self.rights.0);
    }
    fn read(from: wire::lease::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Lease {
            region: from.get_region(),
            offset: from.get_offset(),
            length: from.get_length(),
            rights: read_rights(from.get_rights())?,
        })
    }
}

fn read_rights(claimed: u32) -> Result<Rights, BadBody> {
    let rights = Rights(claimed);
    if Rights::ALL.covers(rights) { Ok(rights) } else { Err(BadBody::Unknown("rights")) }
}

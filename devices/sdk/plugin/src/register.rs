//! A register, as data: where it is, at which width, and what is behind it.

use crate::{Access, Device, NoRegister, Number};

type Read<D> = fn(&mut D, &mut <D as Device>::State, Access) -> u64;
type Write<D> = fn(&mut D, &mut <D as Device>::State, Access, u64);
type Field<D> = fn(&mut <D as Device>::State) -> &mut dyn Number;

/// A register of a device: in a range, at an offset, of one width. Whatever it does not do is no register.
pub struct Register<D: Device> {
    /// Index into the manifest's ranges.
    pub(crate) range: u8,
    /// Bytes from the start of the range.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) width: u8,
    pub(crate) posted: Option<u8>,
    pub(crate) shadow: Option<u8>,
    field: Option<Field<D>>,
    writable: bool,
    read: Option<Read<D>>,
    write: Option<Write<D>>,
}

impl<D: Device> Register<D> {
    /// A register at this offset of the first range, of this width.
    #[must_use]
    pub const fn at(offset: u64, width: u8) -> Register<D> {
        Register {
            range: 0,
            offset,
            width,
            posted: None,
            shadow: None,
            field: None,
            writable: false,
            read: None,
            write: None,
        }
    }

    /// In this range.
    #[must_use]
    pub const fn of(self, range: u8) -> Register<D> {
        Register { range, ..self }
    }

    /// Loads give a field of the state.
    #[must_use]
    pub const fn field(self, field: Field<D>) -> Register<D> {
        Register { field: Some(field), ..self }
    }

    /// Stores set the field.
    #[must_use]
    pub const fn writable(self) -> Register<D> {
        Register { writable: true, ..self }
    }

    /// Answers loads.
    #[must_use]
    pub const fn read(self, read: Read<D>) -> Register<D> {
        Register { read: Some(read), ..self }
    }

    /// Takes stores.
    #[must_use]
    pub const fn write(self, write: Write<D>) -> Register<D> {
        Register { write: Some(write), ..self }
    }

    /// Stores may be posted, while this bit in the outputs' `postable` mask is set.
    #[must_use]
    pub const fn posted(self, bit: u8) -> Register<D> {
        Register { posted: Some(bit), ..self }
    }

    /// Loads are served from this shadow value of the outputs, while there is one.
    #[must_use]
    pub const fn shadow(self, slot: u8) -> Register<D> {
        Register { shadow: Some(slot), ..self }
    }

    /// The register that an access means.
    fn find(at: &Access) -> Result<&'static Register<D>, NoRegister> {
        let is = |register: &&Register<D>| {
            (register.range, register.offset, register.width) == (at.range, at.offset, at.width)
        };
        D::REGISTERS.iter().find(is).ok_or(NoRegister)
    }

    pub(crate) fn load(device: &mut D, state: &mut D::State, at: Access) -> Result<u64, NoRegister> {
        let register = Register::find(&at)?;
        match (register.read, register.field) {
            (Some(read), _) => Ok(read(device, state, at)),
            (None, Some(field)) => Ok(field(state).get()),
            (None, None) => Err(NoRegister),
        }
    }

    pub(crate) fn store(device: &mut D, state: &mut D::State, at: Access, value: u64) -> Result<(), NoRegister> {
        let register = Register::find(&at)?;
        match (register.write, register.field) {
            (Some(write), _) => write(device, state, at, value),
            (None, Some(field)) if register.writable => field(state).set(value),
            (None, _) => return Err(NoRegister),
        }
        Ok(())
    }
}

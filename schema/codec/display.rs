//! What people do with keyboard and mouse.

use super::{Record, enumeration};
use crate::BadBody;
use crate::display::{Input, Pointer};
use crate::wire::display_capnp as wire;

/// Which of the fields mean something.
#[derive(Clone, Copy)]
enum InputKind {
    Press,
    Release,
    Pointer,
}

enumeration!(InputKind = wire::InputKind; Press, Release, Pointer);

impl Record for Input {
    type Wire = wire::input::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::input::Builder<'_>) {
        match *self {
            Input::Press { key } => {
                to.set_kind(InputKind::Press.to_wire());
                to.set_key(key);
            }
            Input::Release { key } => {
                to.set_kind(InputKind::Release.to_wire());
                to.set_key(key);
            }
            Input::Pointer(Pointer { dx, dy, wheel, buttons }) => {
                to.set_kind(InputKind::Pointer.to_wire());
                to.set_dx(dx);
                to.set_dy(dy);
                to.set_wheel(wheel);
                to.set_buttons(buttons);
            }
        }
    }
    fn read(from: wire::input::Reader<'_>) -> Result<Self, BadBody> {
        Ok(match InputKind::from_wire("kind", from.get_kind())? {
            InputKind::Press => Input::Press { key: from.get_key() },
            InputKind::Release => Input::Release { key: from.get_key() },
            InputKind::Pointer => {
                let buttons = from.get_buttons();
                if buttons & !Pointer::BUTTONS != 0 {
                    return Err(BadBody::OutOfRange("buttons"));
                }
                let (dx, dy, wheel) = (from.get_dx(), from.get_dy(), from.get_wheel());
                Input::Pointer(Pointer { dx, dy, wheel, buttons })
            }
        })
    }
}

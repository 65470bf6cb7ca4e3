//! State: all that a guest could observe of a device, as plain fields of fixed size.

/// What a state is made of, and a state itself: a number, a struct that [`state!`](macro@crate::state) makes, or an array of
/// either. It may live in memory that outlives the process: any bytes there are some value.
pub trait Plain: Clone {
    /// Bytes that it takes.
    const BYTES: usize;
    /// What it is after power on: zero, where a state says nothing else.
    fn initial() -> Self;
    /// What lies at the start of these bytes.
    fn load(bytes: &[u8]) -> Self;
    /// Puts it at the start of these bytes.
    fn store(&self, bytes: &mut [u8]);
}

/// A number in a state: what a register of a device may be.
pub trait Number {
    /// The number.
    fn get(&self) -> u64;
    /// Makes it this number. What does not fit is cut, as in hardware.
    fn set(&mut self, value: u64);
}

macro_rules! number {
    ($($number:ty)*) => {$(
        impl Plain for $number {
            const BYTES: usize = size_of::<$number>();
            fn initial() -> $number {
                0
            }
            fn load(bytes: &[u8]) -> $number {
                let mut copy = [0; size_of::<$number>()];
                copy.copy_from_slice(&bytes[..Self::BYTES]);
                <$number>::from_le_bytes(copy)
            }
            fn store(&self, bytes: &mut [u8]) {
                bytes[..Self::BYTES].copy_from_slice(&self.to_le_bytes());
            }
        }

        impl Number for $number {
            fn get(&self) -> u64 {
                *self as u64
            }
            fn set(&mut self, value: u64) {
                *self = value as $number;
            }
        }
    )*};
}
number!(u8 u16 u32 u64 i8 i16 i32 i64);

impl<T: Plain, const N: usize> Plain for [T; N] {
    const BYTES: usize = N * T::BYTES;
    fn initial() -> [T; N] {
        std::array::from_fn(|_| T::initial())
    }
    fn load(bytes: &[u8]) -> [T; N] {
        std::array::from_fn(|at| T::load(&bytes[at * T::BYTES..]))
    }
    fn store(&self, bytes: &mut [u8]) {
        for (at, each) in self.iter().enumerate() {
            each.store(&mut bytes[at * T::BYTES..]);
        }
    }
}

/// Declares a state: a struct of numbers, other states, and arrays of either. After power on a field is what is said behind it,
/// or zero.
///
/// ```
/// cofferdam_plugin::state! {
///     /// What a thermometer remembers.
///     pub struct State {
///         limit: u16 = 0xffff,
///         samples: [u16; 8],
///     }
/// }
/// assert_eq!(State::default(), State { limit: 0xffff, samples: [0; 8] });
/// ```
#[macro_export]
macro_rules! state {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_visibility:vis $field:ident: $kind:ty $(= $initial:expr)?),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        $visibility struct $name {
            $($(#[$field_meta])* $field_visibility $field: $kind),*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $crate::initial!($kind $(, $initial)?)),* }
            }
        }

        impl $crate::Plain for $name {
            const BYTES: usize = 0 $(+ <$kind as $crate::Plain>::BYTES)*;
            fn initial() -> $name {
                $name::default()
            }
            #[allow(unused_assignments)]
            fn load(bytes: &[u8]) -> $name {
                let mut at = 0;
                $(
                    let $field = <$kind as $crate::Plain>::load(&bytes[at..]);
                    at += <$kind as $crate::Plain>::BYTES;
                )*
                $name { $($field),* }
            }
            #[allow(unused_assignments)]
            fn store(&self, bytes: &mut [u8]) {
                let mut at = 0;
                $(
                    $crate::Plain::store(&self.$field, &mut bytes[at..]);
                    at += <$kind as $crate::Plain>::BYTES;
                )*
            }
        }
    };
}

/// What a field is after power on: what is said, or zero.
#[doc(hidden)]
#[macro_export]
macro_rules! initial {
    ($kind:ty) => {
        <$kind as $crate::Plain>::initial()
    };
    ($kind:ty, $initial:expr) => {
        $initial
    };
}

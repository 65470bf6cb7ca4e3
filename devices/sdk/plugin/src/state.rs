//! State: all that a guest could observe of a device, as plain fields of fixed size.

/// Plain data of fixed size: what may live in memory that outlives the process. [`state!`](macro@crate::state) makes it.
pub trait Plain: Clone + Default {
    /// Bytes that it takes there.
    const BYTES: usize;
    /// What lies there; any bytes are some state.
    fn load(bytes: &[u8]) -> Self;
    /// Puts it there.
    fn store(&self, bytes: &mut [u8]);
}

/// What a state is made of: a number, or an array of them.
pub trait Field: Clone {
    /// Bytes that it takes.
    const BYTES: usize;
    /// Zero, as all of a state is after power on.
    fn zero() -> Self;
    /// What lies at the start of these bytes.
    fn load(bytes: &[u8]) -> Self;
    /// Puts it at the start of these bytes.
    fn store(&self, bytes: &mut [u8]);
}

macro_rules! number {
    ($($number:ty)*) => {$(
        impl Field for $number {
            const BYTES: usize = size_of::<$number>();
            fn zero() -> $number {
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
    )*};
}
number!(u8 u16 u32 u64 i8 i16 i32 i64);

impl<T: Field, const N: usize> Field for [T; N] {
    const BYTES: usize = N * T::BYTES;
    fn zero() -> [T; N] {
        std::array::from_fn(|_| T::zero())
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

/// Declares a state: a struct of numbers and arrays of numbers, all of them zero after power on.
///
/// ```
/// cofferdam_plugin::state! {
///     /// What a thermometer remembers.
///     pub struct State {
///         limit: u16,
///         samples: [u16; 8],
///     }
/// }
/// assert_eq!(State::default().limit, 0);
/// ```
#[macro_export]
macro_rules! state {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_visibility:vis $field:ident: $kind:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        $visibility struct $name {
            $($(#[$field_meta])* $field_visibility $field: $kind),*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: <$kind as $crate::Field>::zero()),* }
            }
        }

        impl $crate::Plain for $name {
            const BYTES: usize = 0 $(+ <$kind as $crate::Field>::BYTES)*;
            #[allow(unused_assignments)]
            fn load(bytes: &[u8]) -> $name {
                let mut at = 0;
                $(
                    let $field = <$kind as $crate::Field>::load(&bytes[at..]);
                    at += <$kind as $crate::Field>::BYTES;
                )*
                $name { $($field),* }
            }
            #[allow(unused_assignments)]
            fn store(&self, bytes: &mut [u8]) {
                let mut at = 0;
                $(
                    $crate::Field::store(&self.$field, &mut bytes[at..]);
                    at += <$kind as $crate::Field>::BYTES;
                )*
            }
        }
    };
}

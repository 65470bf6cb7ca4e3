//! The MSI-X table and pending bits of one function (PCI Local Bus 3.0, 6.8.2), served by the VMM.
//!
//! A device owns one eventfd for each vector and signals it; it never sees the table. While a vector is unmasked its eventfd
//! is bound to the kernel, which turns a signal into the message of the table's entry without any of us. While it is masked
//! the eventfd is left alone, and a count in it is what the pending bit shows. Binding delivers such a count.

use crate::lock;
use imc::Wake;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the pending bits begin in the BAR: the second half of its page. The table begins at 0.
pub const PENDING_OFFSET: u64 = 2048;
/// Bytes of a table entry: address, upper address, data, control.
const ENTRY_BYTES: u64 = 16;
/// The mask bit of an entry's control word.
const MASKED: u32 = 1;

/// What a message-signalled interrupt is: one 32-bit store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Guest address.
    pub address: u64,
    /// What is stored.
    pub data: u32,
}

/// Where messages go.
pub trait Delivery: Send + Sync {
    /// From now on a signal of `vector` sends `message`; a count it has already is delivered. Called again for a bound
    /// vector whose message changed. A failure leaves the vector unbound.
    fn bind(&self, gsi: u32, vector: &Wake, message: Message) -> Result<(), String>;
    /// From now on signals of `vector` stay in it.
    fn unbind(&self, gsi: u32, vector: &Wake);
}

/// A machine without KVM: the hub waits for the vectors that may send, and stores their messages itself.
pub struct Polled(Wake);

impl Polled {
    /// `hub` wakes the hub, so that it waits for a newly bound vector too.
    pub fn new(hub: Wake) -> Polled {
        Polled(hub)
    }
}

impl Delivery for Polled {
    fn bind(&self, _: u32, _: &Wake, _: Message) -> Result<(), String> {
        self.0.signal(1).map_err(|error| error.to_string())
    }
    fn unbind(&self, _: u32, _: &Wake) {}
}

/// The vectors of one function.
pub struct Vectors {
    vectors: Vec<Wake>,
    /// Interrupt number of the first vector; the others follow.
    first_gsi: u32,
    delivery: Arc<dyn Delivery>,
    table: Mutex<Table>,
}

struct Table {
    entries: Vec<Entry>,
    /// MSI-X Enable of the capability's message control.
    enabled: bool,
    /// Function Mask of the same.
    masked: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    words: [u32; 4],
    bound: Option<Message>,
}

impl Vectors {
    /// Vectors with these eventfds, all masked, as after reset. Their interrupt numbers begin at `first_gsi`.
    pub fn new(vectors: Vec<Wake>, first_gsi: u32, delivery: Arc<dyn Delivery>) -> Vectors {
        let entries = vec![Entry { words: [0, 0, 0, MASKED], bound: None }; vectors.len()];
        let table = Mutex::new(Table { entries, enabled: false, masked: false });
        Vectors { vectors, first_gsi, delivery, table }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.vectors.len()
    }

    /// Their eventfds.
    pub fn wakes(&self) -> &[Wake] {
        &self.vectors
    }

    /// The capability's enable and function mask bits changed. The sentence says which vector could not be bound.
    pub fn control(&self, enabled: bool, masked: bool) -> Result<(), String> {
        let mut table = lock(&self.table);
        table.enabled = enabled;
        table.masked = masked;
        let mut result = Ok(());
        for index in 0..self.vectors.len() {
            result = result.and(self.refresh(&mut table, index));
        }
        result
    }

    /// A load of 1 to 8 bytes from the BAR. Parts that are neither table nor pending bits are zero.
    pub fn read(&self, offset: u64, width: u8) -> u64 {
        let table = lock(&self.table);
        let mut value = 0;
        for byte in 0..u64::from(width.min(8)) {
            let at = offset.wrapping_add(byte);
            let word = if at < PENDING_OFFSET { table.word(at) } else { self.pending(&table, at - PENDING_OFFSET) };
            value |= u64::from(word.to_le_bytes()[(at % 4) as usize]) << (8 * byte);
        }
        value
    }

    /// A store to the BAR. Only aligned words and pairs of words mean anything (6.8.2); the pending bits are read-only.
    pub fn write(&self, offset: u64, width: u8, value: u64) -> Result<(), String> {
        let words = match width {
            4 | 8 if offset.is_multiple_of(4) => u64::from(width / 4),
            _ => return Ok(()),
        };
        let mut table = lock(&self.table);
        let mut result = Ok(());
        for word in 0..words {
            let at = offset.wrapping_add(4 * word);
            let index = (at / ENTRY_BYTES) as usize;
            if at < PENDING_OFFSET && index < table.entries.len() {
                table.entries[index].words[(at % ENTRY_BYTES / 4) as usize] = (value >> (32 * word)) as u32;
                result = result.and(self.refresh(&mut table, index));
            }
        }
        result
    }

    /// Takes the signals of `index`, if it may send now, for a machine where nothing in the kernel does.
    pub fn take(&self, index: usize) -> Option<Message> {
        let table = lock(&self.table);
        let message = table.entries.get(index)?.bound?;
        self.vectors[index].drain().map(|_| message)
    }

    /// Whether `index` may send now.
    pub fn may_send(&self, index: usize) -> bool {
        lock(&self.table).entries.get(index).is_some_and(|entry| entry.bound.is_some())
    }

    /// Binds or unbinds vector `index` as the table now says.
    fn refresh(&self, table: &mut Table, index: usize) -> Result<(), String> {
        let sends = table.enabled && !table.masked;
        let entry = &mut table.entries[index];
        let [low, high, data, control] = entry.words;
        let (gsi, vector) = (self.first_gsi + index as u32, &self.vectors[index]);
        let wanted = (sends && control & MASKED == 0)
            // Bits 0 and 1 of the address are reserved and zero (6.8.2.4).
            .then_some(Message { address: u64::from(high) << 32 | u64::from(low & !3), data });
        match wanted {
            _ if wanted == entry.bound => Ok(()),
            Some(message) => {
                let bound = self.delivery.bind(gsi, vector, message);
                entry.bound = bound.is_ok().then_some(message);
                bound.map_err(|why| format!("vector {index} cannot be bound: {why}"))
            }
            None => {
                self.delivery.unbind(gsi, vector);
                entry.bound = None;
                Ok(())
            }
        }
    }

    /// The word of pending bits that holds byte `at` of them. A bound vector is never pending: the kernel has its signals.
    fn pending(&self, table: &Table, at: u64) -> u32 {
        let first = (at / 4 * 32) as usize;
        let in_word = self.vectors.iter().zip(&table.entries).skip(first).take(32).enumerate();
        in_word.fold(0, |bits, (bit, (vector, entry))| {
            let pending = entry.bound.is_none() && vector.wait(Duration::ZERO).unwrap_or(false);
            bits | u32::from(pending) << bit
        })
    }
}

impl Table {
    /// The word of the table that holds byte `at` of it.
    fn word(&self, at: u64) -> u32 {
        let entry = self.entries.get((at / ENTRY_BYTES) as usize);
        entry.map_or(0, |entry| entry.words[(at % ENTRY_BYTES / 4) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what was asked.
    #[derive(Default)]
    struct Recorded(Mutex<Vec<(u32, Option<Message>)>>);

    impl Delivery for Recorded {
        fn bind(&self, gsi: u32, _: &Wake, message: Message) -> Result<(), String> {
            lock(&self.0).push((gsi, Some(message)));
            Ok(())
        }
        fn unbind(&self, gsi: u32, _: &Wake) {
            lock(&self.0).push((gsi, None));
        }
    }

    impl Recorded {
        fn taken(&self) -> Vec<(u32, Option<Message>)> {
            std::mem::take(&mut lock(&self.0))
        }
    }

    fn three() -> (Vectors, Arc<Recorded>) {
        let delivery = Arc::new(Recorded::default());
        let wakes = (0..3).map(|_| Wake::create().unwrap()).collect();
        (Vectors::new(wakes, 24, delivery.clone()), delivery)
    }

    const MESSAGE: Message = Message { address: 0xfee0_1000, data: 0x4041 };

    /// Programs entry `index` as drivers do: masked first, unmasked last.
    fn program(vectors: &Vectors, index: u64, message: Message) {
        vectors.write(16 * index, 8, message.address).unwrap();
        vectors.write(16 * index + 8, 4, u64::from(message.data)).unwrap();
        vectors.write(16 * index + 12, 4, 0).unwrap();
    }

    #[test]
    fn table_reads_as_written_and_starts_masked() {
        let (vectors, _) = three();
        assert_eq!(vectors.read(12, 4), 1);
        program(&vectors, 2, MESSAGE);
        assert_eq!(vectors.read(32, 8), MESSAGE.address);
        assert_eq!(vectors.read(40, 4), u64::from(MESSAGE.data));
        assert_eq!(vectors.read(44, 4), 0);
        assert_eq!(vectors.read(41, 1), 0x40);
        assert_eq!(vectors.read(48, 4), 0, "beyond the last entry");
    }

    #[test]
    fn vector_is_bound_once_enabled_and_unmasked() {
        let (vectors, delivery) = three();
        program(&vectors, 1, MESSAGE);
        assert_eq!(delivery.taken(), []);
        vectors.control(true, false).unwrap();
        assert_eq!(delivery.taken(), [(25, Some(MESSAGE))]);
        vectors.control(true, true).unwrap();
        assert_eq!(delivery.taken(), [(25, None)]);
        vectors.control(true, false).unwrap();
        vectors.write(16 + 12, 4, 1).unwrap();
        assert_eq!(delivery.taken(), [(25, Some(MESSAGE)), (25, None)]);
    }

    #[test]
    fn message_changed_while_unmasked_is_bound_anew() {
        let (vectors, delivery) = three();
        vectors.control(true, false).unwrap();
        program(&vectors, 0, MESSAGE);
        delivery.taken();
        vectors.write(8, 4, 0x4042).unwrap();
        assert_eq!(delivery.taken(), [(24, Some(Message { data: 0x4042, ..MESSAGE }))]);
        vectors.write(8, 4, 0x4042).unwrap();
        assert_eq!(delivery.taken(), [], "the same again");
    }

    #[test]
    fn masked_signal_is_pending_until_taken() {
        let (vectors, _) = three();
        vectors.control(true, false).unwrap();
        vectors.wakes()[2].signal(1).unwrap();
        assert_eq!(vectors.read(PENDING_OFFSET, 8), 0b100);
        assert_eq!(vectors.take(2), None, "masked");
        program(&vectors, 2, MESSAGE);
        assert_eq!(vectors.read(PENDING_OFFSET, 4), 0, "bound");
        assert_eq!(vectors.take(2), Some(MESSAGE));
        assert_eq!(vectors.take(2), None, "taken");
    }

    #[test]
    fn stray_stores_change_nothing() {
        let (vectors, delivery) = three();
        vectors.control(true, false).unwrap();
        for (offset, width) in [(12, 1), (14, 2), (13, 4), (PENDING_OFFSET, 4), (48, 8), (u64::MAX - 3, 8), (4092, 8)] {
            vectors.write(offset, width, 0).unwrap();
        }
        assert_eq!(vectors.read(12, 4), 1);
        assert_eq!(delivery.taken(), []);
    }
}

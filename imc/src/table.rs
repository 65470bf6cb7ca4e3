//! Things named by a key that is never given out twice.

use slab::Slab;
use std::fmt;
use std::marker::PhantomData;

/// Bits of a key that say which place; the rest is the generation.
const PLACE_BITS: u32 = 16;
/// Most things that one table can hold.
const PLACES_MAX: usize = 1 << PLACE_BITS;

/// Things that others name: a process's received capabilities, the calls that are under way.
///
/// A place is used again, a key never: a key whose thing was taken out names nothing from then on.
#[derive(Debug)]
pub struct Table<T> {
    places: Slab<(u64, T)>,
    /// Of the newest key; each insertion has its own.
    generation: u64,
    bound: usize,
}

/// The name of one thing in one [`Table`]: place and generation.
///
/// [As a number](Key::to_bits) it may be given to another process, which can give back whatever it likes: a made-up key names
/// nothing, or something else *of the same table*. So each peer has a table of its own.
pub struct Key<T>(u64, PhantomData<fn() -> T>);

impl<T> Table<T> {
    /// An empty table for at most `bound` things. Their memory is taken at once: an insertion allocates nothing.
    ///
    /// # Panics
    /// When `bound` is more than 65,536.
    pub fn with_bound(bound: usize) -> Table<T> {
        assert!(bound <= PLACES_MAX);
        Table { places: Slab::with_capacity(bound), generation: 0, bound }
    }

    /// Puts a thing in, and names it.
    ///
    /// # Errors
    /// The thing itself, when the table is full, or has used up its 2⁴⁸ generations.
    pub fn insert(&mut self, thing: T) -> Result<Key<T>, T> {
        let generation = self.generation + 1;
        if self.places.len() >= self.bound || generation >> (u64::BITS - PLACE_BITS) != 0 {
            return Err(thing);
        }
        self.generation = generation;
        let place = self.places.insert((generation, thing));
        Ok(Key(generation << PLACE_BITS | place as u64, PhantomData))
    }

    /// The thing of this name, if it is still here.
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let (generation, thing) = self.places.get(key.place())?;
        (*generation == key.generation()).then_some(thing)
    }

    /// The thing of this name, to be changed.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let (generation, thing) = self.places.get_mut(key.place())?;
        (*generation == key.generation()).then_some(thing)
    }

    /// Takes the thing out; its name is dead.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        Some(self.places.remove(key.place()).1)
    }

    /// All things, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map(|(_, (_, thing))| thing)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl<T> Key<T> {
    /// The key as a number; never zero.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Takes a number for a key. It may name nothing.
    pub fn from_bits(bits: u64) -> Key<T> {
        Key(bits, PhantomData)
    }

    fn place(self) -> usize {
        self.0 as usize % PLACES_MAX
    }

    fn generation(self) -> u64 {
        self.0 >> PLACE_BITS
    }
}

// By hand: a key is a number, whatever it names.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Key<T> {}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({}, generation {})", self.place(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_key_never_names_what_took_the_place() {
        let mut table = Table::with_bound(1);
        let old = table.insert("old").unwrap();
        assert_eq!(table.remove(old), Some("old"));
        for _ in 0..1000 {
            let new = table.insert("new").unwrap();
            assert_eq!(new.place(), old.place(), "the place is used again");
            assert_eq!(table.get(old), None);
            assert_eq!(table.get_mut(old), None);
            assert_eq!(table.remove(old), None);
            assert_eq!(table.remove(new), Some("new"));
        }
    }

    #[test]
    fn made_up_keys_name_nothing() {
        let mut table = Table::with_bound(2);
        let key = table.insert(()).unwrap();
        for bits in [0, 1, key.to_bits() + 1, key.to_bits() ^ 1 << PLACE_BITS, u64::MAX] {
            assert_eq!(table.get(Key::from_bits(bits)), None);
        }
        assert_eq!(table.get(Key::from_bits(key.to_bits())), Some(&()));
    }

    #[test]
    fn full_table_gives_the_thing_back() {
        let mut table = Table::with_bound(1);
        let key = table.insert(1).unwrap();
        assert_eq!(table.insert(2), Err(2));
        table.remove(key);
        assert!(table.insert(3).is_ok());
    }

    #[test]
    fn table_that_has_used_up_its_generations_takes_nothing_more() {
        let mut table = Table::with_bound(2);
        table.generation = (1 << (u64::BITS - PLACE_BITS)) - 2;
        let last = table.insert(1).unwrap();
        assert_eq!(table.insert(2), Err(2), "a key would be given out twice");
        assert_eq!(table.get(last), Some(&1));
    }
}

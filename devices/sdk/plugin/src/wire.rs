//! Cap'n Proto, as far as the conversation with the supervisor takes it: messages of one segment, of structs, lists of
//! structs, text and data. Source: capnproto.org, "Encoding Spec".

/// Bits of a struct pointer: 30 of offset, 16 of data words, 16 of pointers. Of a list pointer: 30 of offset, 3 of what its
/// elements are, 29 of how many there are.
const STRUCT: u64 = 0;
const LIST: u64 = 1;
const KIND: u64 = 3;
/// Elements are bytes.
const BYTES: u64 = 2;
/// Elements are pointers.
const POINTERS: u64 = 6;
/// Elements are structs, behind a word that says what they look like.
const COMPOSITE: u64 = 7;

/// A message that is being made.
pub(crate) struct Builder {
    words: Vec<u64>,
}

/// A struct in it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    data: usize,
    pointers: usize,
}

/// What a struct looks like: words of data, and pointers.
pub(crate) type Layout = (u16, u16);

impl Builder {
    /// A message whose root looks like this.
    pub(crate) fn new(root: Layout) -> (Builder, Place) {
        let mut builder = Builder { words: vec![0] };
        let place = builder.allocate(root, 1);
        builder.words[0] = struct_pointer(0, root);
        (builder, place)
    }

    /// Sets a number at this byte of the struct's data.
    pub(crate) fn set<const N: usize>(&mut self, place: Place, byte: usize, value: [u8; N]) {
        for (at, value) in (byte..).zip(value) {
            self.words[place.data + at / 8] |= u64::from(value) << (8 * (at % 8));
        }
    }

    /// Sets a text. One of no bytes is left out, which reads the same.
    pub(crate) fn text(&mut self, place: Place, pointer: usize, text: &str) {
        if !text.is_empty() {
            // A text ends with a zero, which counts.
            let bytes: Vec<u8> = text.bytes().chain([0]).collect();
            self.data(place, pointer, &bytes);
        }
    }

    /// Sets bytes.
    pub(crate) fn data(&mut self, place: Place, pointer: usize, bytes: &[u8]) {
        self.data_at(place.pointers + pointer, bytes);
    }

    /// Makes a list of bytes.
    pub(crate) fn data_list(&mut self, place: Place, pointer: usize, list: &[Vec<u8>]) {
        let (from, start) = (place.pointers + pointer, self.words.len());
        self.words[from] = list_pointer(start - from - 1, POINTERS, list.len());
        self.words.resize(start + list.len(), 0);
        for (at, bytes) in (start..).zip(list) {
            self.data_at(at, bytes);
        }
    }

    /// Makes a struct.
    pub(crate) fn structure(&mut self, place: Place, pointer: usize, layout: Layout) -> Place {
        let (from, start) = (place.pointers + pointer, self.words.len());
        self.words[from] = struct_pointer(start - from - 1, layout);
        self.allocate(layout, 1)
    }

    /// Makes a list of structs.
    pub(crate) fn list(&mut self, place: Place, pointer: usize, count: usize, layout: Layout) -> Vec<Place> {
        let each = words(layout);
        let (from, start) = (place.pointers + pointer, self.words.len());
        self.words[from] = list_pointer(start - from - 1, COMPOSITE, count * each);
        self.words.push(struct_pointer(count, layout));
        let first = self.allocate(layout, count);
        (0..count).map(|at| Place { data: first.data + at * each, pointers: first.pointers + at * each }).collect()
    }

    /// The message.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn data_at(&mut self, from: usize, bytes: &[u8]) {
        let start = self.words.len();
        self.words[from] = list_pointer(start - from - 1, BYTES, bytes.len());
        self.words.extend(bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        }));
    }

    fn allocate(&mut self, layout: Layout, count: usize) -> Place {
        let data = self.words.len();
        self.words.resize(data + count * words(layout), 0);
        Place { data, pointers: data + usize::from(layout.0) }
    }
}

fn words((data, pointers): Layout) -> usize {
    usize::from(data) + usize::from(pointers)
}

fn struct_pointer(offset: usize, layout: Layout) -> u64 {
    // A struct of nothing lies at its own pointer: one that pointed behind itself would be none at all.
    let offset = if words(layout) == 0 { u32::MAX << 2 } else { (offset as u32) << 2 };
    STRUCT | u64::from(offset) | u64::from(layout.0) << 32 | u64::from(layout.1) << 48
}

fn list_pointer(offset: usize, kind: u64, count: usize) -> u64 {
    LIST | (offset as u64) << 2 | kind << 32 | (count as u64) << 35
}

/// A message that came. Nothing of it is believed: each pointer is followed only into the message.
pub(crate) struct Reader {
    bytes: Vec<u8>,
}

/// A struct in it. Fields beyond what the sender knew read as zero.
#[derive(Clone, Copy)]
pub(crate) struct Struct<'a> {
    message: &'a Reader,
    /// The first word of its data, and how many there are.
    data: (usize, usize),
    /// The same of its pointers.
    pointers: (usize, usize),
}

/// The message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Reader {
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Reader, Malformed> {
        if bytes.len().is_multiple_of(8) { Ok(Reader { bytes }) } else { Err(Malformed) }
    }

    pub(crate) fn root(&self) -> Result<Struct<'_>, Malformed> {
        Struct { message: self, data: (0, 0), pointers: (0, self.words().min(1)) }.structure(0)
    }

    fn words(&self) -> usize {
        self.bytes.len() / 8
    }

    fn word(&self, at: usize) -> Option<u64> {
        let bytes = self.bytes.get(at.checked_mul(8)?..)?;
        (bytes.len() >= 8).then(|| <u64 as crate::Plain>::load(bytes))
    }
}

impl<'a> Struct<'a> {
    /// The number at this byte of its data, which is a multiple of its size.
    pub(crate) fn number<const N: usize>(&self, byte: usize) -> [u8; N] {
        let (first, count) = self.data;
        let word = if byte / 8 < count { self.message.word(first + byte / 8).unwrap_or(0) } else { 0 };
        std::array::from_fn(|at| word.to_le_bytes().get(byte % 8 + at).copied().unwrap_or(0))
    }

    /// A text; none is empty.
    pub(crate) fn text(&self, pointer: usize) -> Result<&'a str, Malformed> {
        let Some((start, kind, count)) = self.list_at(pointer)? else { return Ok("") };
        let bytes = self.message.bytes.get(start * 8..).and_then(|rest| rest.get(..count));
        match bytes.and_then(<[u8]>::split_last) {
            // It ends with a zero, which counts.
            Some((0, text)) if kind == BYTES => std::str::from_utf8(text).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    }

    /// The structs of a list; none is empty.
    pub(crate) fn list(&self, pointer: usize) -> Result<Vec<Struct<'a>>, Malformed> {
        let Some((start, kind, length)) = self.list_at(pointer)? else { return Ok(Vec::new()) };
        let tag = self.message.word(start).ok_or(Malformed)?;
        let (count, layout) = ((tag as u32 >> 2) as usize, layout(tag));
        let each = words(layout);
        // Structs of no words could be counted without end.
        if kind != COMPOSITE || tag & KIND != STRUCT || each * count > length || (each == 0 && count > 0) {
            return Err(Malformed);
        }
        (0..count).map(|at| self.struct_at(start + 1 + at * each, layout)).collect()
    }

    /// A struct; none is one whose fields are all zero.
    pub(crate) fn structure(&self, pointer: usize) -> Result<Struct<'a>, Malformed> {
        match self.pointer(pointer) {
            None | Some((_, 0)) => Ok(Struct { message: self.message, data: (0, 0), pointers: (0, 0) }),
            Some((at, word)) if word & KIND == STRUCT => self.struct_at(target(at, word)?, layout(word)),
            Some(_) => Err(Malformed),
        }
    }

    fn struct_at(&self, start: usize, layout: Layout) -> Result<Struct<'a>, Malformed> {
        let (data, pointers) = (usize::from(layout.0), usize::from(layout.1));
        if start.checked_add(data + pointers).is_none_or(|end| end > self.message.words()) {
            return Err(Malformed);
        }
        Ok(Struct { message: self.message, data: (start, data), pointers: (start + data, pointers) })
    }

    /// Whether there is anything behind a pointer.
    pub(crate) fn has(&self, pointer: usize) -> bool {
        self.pointer(pointer).is_some_and(|(_, word)| word != 0)
    }

    /// Where a list begins, what its elements are, and how many there are.
    fn list_at(&self, pointer: usize) -> Result<Option<(usize, u64, usize)>, Malformed> {
        match self.pointer(pointer) {
            None | Some((_, 0)) => Ok(None),
            Some((at, word)) if word & KIND == LIST => {
                Ok(Some((target(at, word)?, word >> 32 & 7, (word >> 35) as usize)))
            }
            Some(_) => Err(Malformed),
        }
    }

    /// Where a pointer is, and what it says.
    fn pointer(&self, number: usize) -> Option<(usize, u64)> {
        let (first, count) = self.pointers;
        let at = first + number;
        (number < count).then(|| self.message.word(at).map(|word| (at, word)))?
    }
}

/// The word that a pointer at this one points at: its offset is signed.
fn target(at: usize, word: u64) -> Result<usize, Malformed> {
    let offset = (word as u32).cast_signed() >> 2;
    (at + 1).checked_add_signed(offset as isize).ok_or(Malformed)
}

fn layout(word: u64) -> Layout {
    ((word >> 32) as u16, (word >> 48) as u16)
}

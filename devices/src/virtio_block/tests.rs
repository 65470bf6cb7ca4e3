use super::*;
use crate::conformance::{Random, Strike, World, conforms};
use device::virtio::guest::{Buffer, Deaths, Guest, MEMORY_BYTES, USED};
use device::{Device, GuestMemory, RawFile};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vm_memory::{GuestAddress, VolatileSlice};

const SECTORS: u64 = 64;
const DISK: u64 = SECTORS * SECTOR;
const FLUSH: u64 = 1 << VIRTIO_BLK_F_FLUSH;

const HEADER: u64 = 0x8_0000;
const STATUS: u64 = 0x8_0100;
const TABLE: u64 = 0x8_1000;
const DATA: u64 = 0x9_0000;

/// Sectors that all differ.
fn contents() -> Vec<u8> {
    (0..DISK).map(|at| (at / SECTOR * 7 + at % 251) as u8).collect()
}

fn disk() -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&contents(), 0).unwrap();
    file
}

fn stored(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; DISK as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn grant(file: &File, readonly: bool) -> impl Fn(&mut Powers) + 'static {
    let file = file.try_clone().unwrap();
    move |powers| powers.stores.push((IMAGE, Box::new(RawFile::new(file.try_clone().unwrap(), DISK, readonly))))
}

fn none() -> Options {
    Options::default()
}

/// A started guest with its disk.
fn guest() -> (Guest<Block>, File) {
    let file = disk();
    let mut guest = Guest::new(none(), grant(&file, false));
    guest.start(FLUSH, 16, true);
    (guest, file)
}

/// Puts a header into memory, and a status that no device writes.
fn prepare<B: Backend>(guest: &Guest<B>, kind: u32, sector: u64) {
    let mut header = [0xee; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    guest.set_bytes(HEADER, &header);
    guest.set_bytes(STATUS, &[0xff]);
}

/// A request with `data` between header and status. Gives its status and the used length.
fn request<B: Backend>(guest: &mut Guest<B>, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
    prepare(guest, kind, sector);
    let mut chain = vec![Buffer::readable(HEADER, 16)];
    chain.extend(data);
    chain.push(Buffer::writable(STATUS, 1));
    let before = guest.word(USED + 2);
    guest.submit_indirect(0, TABLE, &chain);
    guest.notify(0);
    assert_eq!(guest.word(USED + 2), before + 1);
    (guest.bytes(STATUS, 1)[0], guest.used().last().unwrap().1)
}

const OK: u8 = VIRTIO_BLK_S_OK as u8;
const ERROR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPPORTED: u8 = VIRTIO_BLK_S_UNSUPP as u8;

mod requests {
    use super::*;

    #[test]
    fn what_is_written_is_on_the_disk_and_is_read_again() {
        let (mut guest, file) = guest();
        guest.set_bytes(DATA, &[0x5a; 1024]);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 3, &[Buffer::readable(DATA, 1024)]), (OK, 1));
        let mut expected = contents();
        expected[3 * 512..5 * 512].fill(0x5a);
        assert_eq!(stored(&file), expected);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 2, &[Buffer::writable(DATA, 2048)]), (OK, 2049));
        assert_eq!(guest.bytes(DATA, 2048), expected[1024..3072]);
    }

    #[test]
    fn data_may_be_scattered_in_pieces_of_any_size() {
        let (mut guest, file) = guest();
        let sizes = [1, 511, 1000, 24, 3, 509];
        let pieces = |make: fn(u64, u32) -> Buffer| -> Vec<Buffer> {
            (0..).zip(sizes).map(|(index, bytes)| make(DATA + 0x10_0000 - 2000 + index * 0x1001, bytes)).collect()
        };
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 5, &pieces(Buffer::writable)), (OK, 2049));
        let read: Vec<u8> = pieces(Buffer::writable)
            .iter()
            .flat_map(|piece| guest.bytes(piece.address, piece.bytes as usize))
            .collect();
        assert_eq!(read, contents()[5 * 512..9 * 512]);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 40, &pieces(Buffer::readable)), (OK, 1));
        assert_eq!(stored(&file)[40 * 512..44 * 512], contents()[5 * 512..9 * 512]);
    }

    #[test]
    fn as_many_data_buffers_as_are_allowed_are_served() {
        let (mut guest, file) = guest();
        let data: Vec<Buffer> =
            (0..).map(|index| Buffer::readable(DATA + index * 600, 128)).take(SEG_MAX as usize - 2).collect();
        for (piece, byte) in data.iter().zip(0..) {
            guest.set_bytes(piece.address, &[byte; 128]);
        }
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 0, &data), (OK, 1));
        let expected: Vec<u8> = (0..SEG_MAX as u8 - 2).flat_map(|byte| [byte; 128]).collect();
        assert_eq!(stored(&file)[..expected.len()], expected);
    }

    #[test]
    fn where_buffers_begin_and_end_means_nothing() {
        for deaths in Deaths::ALL {
            let (mut guest, file) = guest();
            guest.deaths = deaths;
            // The header byte by byte.
            prepare(&guest, VIRTIO_BLK_T_IN, 1);
            let mut chain: Vec<Buffer> = (0..16).map(|byte| Buffer::readable(HEADER + byte, 1)).collect();
            // Data and status in one buffer, with a cut inside the first sector.
            chain.extend([Buffer::writable(DATA, 100), Buffer::writable(DATA + 100, 413)]);
            guest.submit_indirect(0, TABLE, &chain);
            // Header and data in one buffer, with a cut inside the header.
            prepare_at(&guest, DATA + 0x2000, VIRTIO_BLK_T_OUT, 9);
            guest.set_bytes(DATA + 0x2010, &[0x77; 512]);
            guest.submit(
                4,
                &[
                    Buffer::readable(DATA + 0x2000, 5),
                    Buffer::readable(DATA + 0x2005, 523),
                    Buffer::writable(STATUS, 1),
                ],
            );
            guest.ring();
            assert_eq!(guest.used(), [(0, 513), (4, 1)], "{deaths:?}");
            assert_eq!(guest.bytes(DATA, 512), contents()[512..1024]);
            assert_eq!(guest.bytes(DATA + 512, 1), [OK]);
            assert_eq!(guest.bytes(STATUS, 1), [OK]);
            assert_eq!(stored(&file)[9 * 512..10 * 512], [0x77; 512]);
        }
    }

    fn prepare_at(guest: &Guest<Block>, at: u64, kind: u32, sector: u64) {
        guest.set_bytes(at, &kind.to_le_bytes());
        guest.set_bytes(at + 8, &sector.to_le_bytes());
    }

    #[test]
    fn requests_of_no_sectors_and_flushes_succeed() {
        let (mut guest, file) = guest();
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 64, &[]), (OK, 1));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 64, &[]), (OK, 1));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
        assert_eq!(stored(&file), contents());
    }

    #[test]
    fn sectors_that_are_not_on_the_disk_are_an_error_and_touch_nothing() {
        let (mut guest, file) = guest();
        let two = (1u64 << 55) + 1;
        for sector in [63, 64, 1 << 54, two, two - 1, u64::MAX, u64::MAX / 512, u64::MAX / 512 + 1] {
            guest.set_bytes(DATA, &[0xaa; 1024]);
            assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, sector, &[Buffer::writable(DATA, 1024)]), (ERROR, 0));
            assert_eq!(guest.bytes(DATA, 1024), [0xaa; 1024]);
            assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, sector, &[Buffer::readable(DATA, 1024)]), (ERROR, 1));
        }
        assert_eq!(stored(&file), contents());
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 62, &[Buffer::writable(DATA, 1024)]), (OK, 1025));
    }

    #[test]
    fn data_that_is_not_whole_sectors_or_too_much_is_an_error() {
        let (mut guest, _) = guest();
        for bytes in [1, 511, 513] {
            assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 0, &[Buffer::writable(DATA, bytes)]), (ERROR, 0));
        }
        let much = [Buffer::writable(0x10_0000, 0x8_0000); 40];
        assert!(much.iter().map(|buffer| u64::from(buffer.bytes)).sum::<u64>() > REQUEST_MAX);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 0, &much), (ERROR, 0));
    }

    #[test]
    fn a_request_that_does_not_exist_is_unsupported() {
        let (mut guest, _) = guest();
        for kind in [2, 3, 11, 13, 14, u32::MAX] {
            assert_eq!(request(&mut guest, kind, 0, &[Buffer::readable(DATA, 16)]), (UNSUPPORTED, 1));
        }
    }

    #[test]
    fn the_disk_tells_its_serial_in_20_bytes() {
        let file = disk();
        let options = Options::new([("serial", "cofferdam-7")]);
        let mut guest: Guest<Block> = Guest::new(options, grant(&file, false));
        guest.start(FLUSH, 16, true);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_GET_ID, 0, &[Buffer::writable(DATA, 20)]), (OK, 21));
        assert_eq!(&guest.bytes(DATA, 21), b"cofferdam-7\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_GET_ID, 0, &[Buffer::writable(DATA, 4)]), (OK, 5));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_GET_ID, 0, &[Buffer::writable(DATA, 99)]), (OK, 20));
    }

    #[test]
    fn a_chain_without_room_for_header_or_status_needs_a_reset() {
        let short: [&[Buffer]; 4] = [
            &[Buffer::readable(HEADER, 15), Buffer::writable(STATUS, 1)],
            &[Buffer::readable(HEADER, 16)],
            &[Buffer::readable(HEADER, 16), Buffer::writable(STATUS, 0)],
            &[Buffer::writable(DATA, 513)],
        ];
        for chain in short {
            let (mut guest, _) = guest();
            prepare(&guest, VIRTIO_BLK_T_IN, 0);
            guest.submit(0, chain);
            guest.ring();
            assert_eq!(guest.device.broken(), Some(Broken::Short));
            assert_eq!(guest.status(), 0x4f);
            assert_eq!(guest.used(), []);
        }
    }

    #[test]
    fn an_image_that_has_shrunk_gives_errors_and_grows_no_more() {
        let (mut guest, file) = guest();
        file.set_len(DISK - 512).unwrap();
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 62, &[Buffer::writable(DATA, 1024)]), (ERROR, 0));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 62, &[Buffer::writable(DATA, 512)]), (OK, 513));
    }
}

mod readonly {
    use super::*;

    fn is_readonly(options: Options, grant_says: bool) {
        let file = disk();
        let mut guest: Guest<Block> = Guest::new(options, grant(&file, grant_says));
        guest.start(0, 16, true);
        assert_ne!(guest.load(0x04, 4) & 1 << VIRTIO_BLK_F_RO, 0);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 0, &[Buffer::readable(DATA, 512)]), (ERROR, 1));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 0, &[Buffer::writable(DATA, 512)]), (OK, 513));
        assert_eq!(stored(&file), contents());
    }

    #[test]
    fn a_disk_is_readonly_if_its_option_says_so_or_if_its_grant_does() {
        is_readonly(Options::new([("readonly", "on")]), false);
        is_readonly(Options::default(), true);
        let (mut guest, _) = guest();
        assert_eq!(guest.load(0x04, 4) & 1 << VIRTIO_BLK_F_RO, 0);
    }

    #[test]
    fn a_readonly_disk_wishes_for_less() {
        let wish = |options| Block::manifest(&options).unwrap().wishes[IMAGE as usize].power;
        assert_eq!(wish(Options::default()), Power::FileWrite);
        assert_eq!(wish(Options::new([("readonly", "")])), Power::FileRead);
    }
}

mod description {
    use super::*;

    #[test]
    fn the_configuration_tells_the_size_and_the_limits() {
        let (mut guest, _) = guest();
        assert_eq!(guest.load(0x2000, 8), SECTORS);
        assert_eq!(guest.load(0x2008, 4), u64::from(SIZE_MAX));
        assert_eq!(guest.load(0x200c, 4), u64::from(SEG_MAX));
        assert_eq!(guest.load(0x2014, 4), 512);
        assert!((24..60).all(|offset| guest.load(0x2000 + offset, 1) == 0));
    }

    #[test]
    fn a_serial_that_does_not_fit_is_refused() {
        for serial in ["123456789012345678901", "täglich", "a\nb"] {
            assert!(Block::manifest(&Options::new([("serial", serial)])).is_err(), "{serial}");
        }
        assert!(Block::manifest(&Options::new([("serial", "12345678901234567890")])).is_ok());
    }

    #[test]
    fn an_image_of_half_a_sector_or_none_is_refused() {
        let powers = || Powers { memory: Some(GuestMemory::new()), vectors: bells(2), ..Powers::default() };
        assert_eq!(VirtioBlock::attach(&none(), &mut powers()).err(), Some(AttachError::Missing("file")));
        let mut half = powers();
        half.stores.push((IMAGE, Box::new(RawFile::new(disk(), 700, false))));
        assert!(matches!(VirtioBlock::attach(&none(), &mut half), Err(AttachError::Unfit(_))));
    }
}

fn bells(count: usize) -> Vec<Box<dyn device::Bell>> {
    (0..count).map(|_| Box::new(Arc::new(AtomicU64::new(0))) as _).collect()
}

mod failures {
    use super::*;

    thread_local! {
        static FLUSHES: Cell<u32> = const { Cell::new(0) };
        static FAILING: Cell<bool> = const { Cell::new(false) };
    }

    struct Frail;

    impl Frail {
        fn attempt() -> io::Result<()> {
            if FAILING.get() { Err(io::Error::other("worn out")) } else { Ok(()) }
        }
    }

    impl BlockStore for Frail {
        fn bytes(&self) -> u64 {
            DISK
        }
        fn readonly(&self) -> bool {
            false
        }
        fn read_at(&mut self, _: u64, _: &[VolatileSlice<'_>]) -> io::Result<()> {
            Frail::attempt()
        }
        fn write_at(&mut self, _: u64, _: &[VolatileSlice<'_>]) -> io::Result<()> {
            Frail::attempt()
        }
        fn flush(&mut self) -> io::Result<()> {
            FLUSHES.set(FLUSHES.get() + 1);
            Frail::attempt()
        }
    }

    struct FrailBlock(Block);

    impl Backend for FrailBlock {
        const QUEUES: &'static [u16] = Block::QUEUES;
        fn manifest(options: &Options) -> Result<Manifest, OptionError> {
            Block::manifest(options)
        }
        fn attach(_: &Options, _: &mut Powers) -> Result<FrailBlock, AttachError> {
            Ok(FrailBlock(Block::new(Box::new(Frail), false, [0; ID_BYTES])))
        }
        fn features(&self) -> u64 {
            self.0.features()
        }
        fn config(&self) -> &[u8] {
            self.0.config()
        }
        fn serve(&mut self, request: Request<'_>) -> Result<Served, Broken> {
            self.0.serve(request)
        }
    }

    fn started(features: u64) -> Guest<FrailBlock> {
        let mut guest = Guest::new(none(), |_| {});
        guest.start(features, 16, true);
        guest
    }

    #[test]
    fn a_driver_that_cannot_flush_has_each_write_flushed() {
        let write = [Buffer::readable(DATA, 512)];
        let mut guest = started(0);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 0, &write), (OK, 1));
        assert_eq!(FLUSHES.take(), 1);
        let mut guest = started(FLUSH);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 0, &write), (OK, 1));
        assert_eq!(FLUSHES.take(), 0);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
        assert_eq!(FLUSHES.take(), 1);
    }

    #[test]
    fn an_error_of_the_store_is_an_error_of_the_request_alone() {
        let mut guest = started(FLUSH);
        FAILING.set(true);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 0, &[Buffer::writable(DATA, 512)]), (ERROR, 0));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 0, &[Buffer::readable(DATA, 512)]), (ERROR, 1));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, &[]), (ERROR, 1));
        FAILING.set(false);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 0, &[Buffer::writable(DATA, 512)]), (OK, 513));
    }
}

mod restarts {
    use super::*;

    /// A driver that does the same random requests each time; gives all that is left. Requests that are outstanding
    /// together have neither sectors nor buffers in common: their order is nobody's promise, and after a death some are done
    /// twice, in the order 1, 2, 1, 2.
    fn life(seed: u64, deaths: Deaths) -> (virtio::State, Vec<u8>, Vec<u8>) {
        let mut random = Random::new(seed);
        let (mut guest, file) = guest();
        guest.deaths = deaths;
        for _ in 0..150 {
            let batch = 1 + random.below(4);
            for slot in 0..batch {
                let at = 0x8_0000 + slot * 0x1_0000;
                let kind = [0, 1, 1, 4, 8, 9][random.below(6) as usize];
                let sectors = random.below(8);
                guest.set_bytes(at, &u32::to_le_bytes(kind));
                guest.set_bytes(at + 8, &(slot * 16 + random.below(9)).to_le_bytes());
                let make = if kind == VIRTIO_BLK_T_OUT { Buffer::readable } else { Buffer::writable };
                let cut = random.below(500) as u32;
                let data = 0x10_0000 + slot * 0x1_0000 + random.below(0x8000);
                let chain = [
                    Buffer::readable(at, 16),
                    make(data, cut),
                    make(data + 0x1000, (sectors * SECTOR) as u32 + 512 - cut),
                    Buffer::writable(at + 0x100, 1),
                ];
                guest.submit(slot as u16 * 4, &chain);
            }
            guest.notify(0);
        }
        assert_eq!(guest.status(), 0xf);
        (guest.state, guest.bytes(0, MEMORY_BYTES as usize), stored(&file))
    }

    #[test]
    fn a_life_with_deaths_leaves_the_same_state_memory_and_disk_as_one_without() {
        for seed in 1..=6 {
            let steady = life(seed, Deaths::Never);
            assert!(steady.2 != contents(), "something was written");
            for deaths in Deaths::ALL {
                assert!(life(seed, deaths) == steady, "seed {seed}, {deaths:?}");
            }
        }
    }
}

mod garbage {
    use super::*;

    #[test]
    fn random_requests_never_panic_and_end() {
        let mut random = Random::new(3);
        let (mut guest, file) = guest();
        let served = Rc::new(RefCell::new([0u32; 3]));
        for turn in 0..100_000 {
            if turn % 16 == 0 || guest.status() != 0xf {
                guest.start(random.below(2) * FLUSH, 16, random.one_in(2));
            }
            let kind = if random.one_in(4) { random.value() as u32 } else { [0, 1, 8][random.below(3) as usize] };
            let sector = if random.one_in(4) { random.value() } else { random.below(SECTORS + 2) };
            prepare(&guest, kind, sector);
            let mut chain = Vec::new();
            for _ in 0..random.below(5) {
                let bytes = [16, 1, 512, random.below(5000), random.value()][random.below(5) as usize] as u32;
                let address = if random.one_in(3) { random.below(MEMORY_BYTES) } else { HEADER };
                chain.push(Buffer { address, bytes, writable: !random.one_in(4) });
            }
            if !random.one_in(4) {
                chain.sort_by_key(|buffer| buffer.writable);
                chain.insert(0, Buffer::readable(HEADER, 16));
                chain.push(Buffer::writable(STATUS, 1));
            }
            guest.submit(0, &chain);
            guest.scan();
            let status = guest.bytes(STATUS, 1)[0];
            if let Some(count) = served.borrow_mut().get_mut(usize::from(status)) {
                *count += 1;
            }
        }
        assert!(served.borrow().iter().all(|count| *count > 1000), "all kinds of answers were given: {served:?}");
        assert_eq!(file.metadata().unwrap().len(), DISK, "the image does not grow");
    }
}

struct Machine {
    file: File,
    memory: GuestMemory,
}

impl World for Machine {
    const NAME: &'static str = NAME;

    fn new() -> Machine {
        let ranges = [(GuestAddress(0), 0x10_0000), (GuestAddress(1 << 32), 0x1_0000)];
        Machine { file: disk(), memory: GuestMemory::from_ranges(&ranges).unwrap() }
    }

    fn powers(&self) -> Powers {
        let mut powers = Powers { memory: Some(self.memory.clone()), vectors: bells(2), ..Powers::default() };
        grant(&self.file, false)(&mut powers);
        powers
    }

    fn seen(&self) -> Vec<u8> {
        stored(&self.file)
    }

    /// Mostly the common configuration, and mostly what makes a device run.
    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        const FIELDS: [(u64, u8); 15] = [
            (0x00, 4),
            (0x04, 4),
            (0x08, 4),
            (0x0c, 4),
            (0x10, 2),
            (0x14, 1),
            (0x14, 1),
            (0x16, 2),
            (0x18, 2),
            (0x1a, 2),
            (0x1c, 2),
            (0x20, 8),
            (0x28, 8),
            (0x30, 8),
            (0x1000, 1),
        ];
        let (mut offset, mut width) = FIELDS[random.below(15) as usize];
        let mut value = match offset {
            0x14 if random.one_in(8) => 0,
            0x14 => 0xf,
            0x08 | 0x1c => random.below(2),
            0x0c => u64::from(random.one_in(2)),
            0x16 => random.below(2) * random.below(3),
            0x20.. => random.below(0x100) << 12,
            _ => random.value(),
        };
        if random.one_in(4) {
            width = 1 << random.below(4);
            offset = if random.one_in(2) { random.below(0x40) } else { random.below(0x3ff8) };
            value = random.value();
        }
        Strike { range: 0, offset, width, value, write: random.below(4) != 0 }
    }
}

conforms!(Machine);

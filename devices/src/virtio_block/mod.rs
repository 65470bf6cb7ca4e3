//! Virtio block device: a disk.
//!
//! Source: virtio 1.2, section 5.2. The registers and the queue are the transport's ([`device::virtio`]); here are the
//! requests, and behind them a [`BlockStore`].

#[cfg(test)]
mod tests;

use crate::declare;
use device::manifest::{Class, Manifest, OptionKind, OptionSpec, Power};
use device::virtio::{self, Backend, Broken, Buffers, FIRST_WISH, Function, Request, Served, Virtio};
use device::{AttachError, BlockStore, OptionError, Options, Powers};
use std::io;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX,
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

pub(crate) const NAME: &str = "virtio-block";

/// The device as a host runs it.
pub(crate) type VirtioBlock = Virtio<Block>;

/// The unit of offsets and lengths (5.2.4), and the block size told to the driver.
const SECTOR: u64 = 512;

const QUEUE_SIZE: u16 = 256;

/// Largest buffer of a request. With [`SEG_MAX`] it bounds how long one request can keep the device from its registers.
const SIZE_MAX: u32 = 64 << 10;

/// Most data buffers of a request: what a queue holds, less the two for header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// Most data of a request, however its buffers are cut.
const REQUEST_MAX: u64 = SIZE_MAX as u64 * SEG_MAX as u64;

/// Bytes of a request before its data (5.2.6).
const HEADER_BYTES: u64 = 16;

const ID_BYTES: usize = VIRTIO_BLK_ID_BYTES as usize;

/// The configuration as of virtio 1.2, to and including the secure-erase fields (5.2.4). Drivers copy all of it.
const CONFIG_BYTES: usize = 60;

/// Index of the wish for the image.
const IMAGE: u32 = FIRST_WISH;

/// Requests of a disk.
pub(crate) struct Block {
    store: Box<dyn BlockStore>,
    /// The guest may only read, whatever the store allows.
    readonly: bool,
    serial: [u8; ID_BYTES],
    config: [u8; CONFIG_BYTES],
}

/// The first bytes of a request: type, a word that is not used, sector, all little-endian.
struct Header([u8; HEADER_BYTES as usize]);

impl Header {
    fn kind(&self) -> u32 {
        self.words() as u32
    }

    fn sector(&self) -> u64 {
        (self.words() >> 64) as u64
    }

    fn words(&self) -> u128 {
        u128::from_le_bytes(self.0)
    }
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Of the device or the driver.
    Error,
    /// There is no such request.
    Unsupported,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Failure {
        Failure::Error
    }
}

impl Block {
    /// A disk over `store`, which calls itself `serial`; not to be written if `readonly`, nor if the store cannot be.
    fn new(store: Box<dyn BlockStore>, readonly: bool, serial: [u8; ID_BYTES]) -> Block {
        // Offsets of the fields that the features offered give a meaning to; all others are 0.
        const CAPACITY: usize = 0;
        const SIZE_MAX_FIELD: usize = 8;
        const SEG_MAX_FIELD: usize = 12;
        const BLK_SIZE: usize = 20;
        let mut config = [0; CONFIG_BYTES];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(CAPACITY, &(store.bytes() / SECTOR).to_le_bytes());
        put(SIZE_MAX_FIELD, &SIZE_MAX.to_le_bytes());
        put(SEG_MAX_FIELD, &SEG_MAX.to_le_bytes());
        put(BLK_SIZE, &(SECTOR as u32).to_le_bytes());
        Block { readonly: readonly || store.readonly(), store, serial, config }
    }

    /// Does one request; `out` is what follows its header and `in_` what precedes its status. Gives the bytes of `in_`
    /// that were written.
    fn request(&mut self, header: &Header, out: Buffers<'_>, in_: Buffers<'_>, stable: bool) -> Result<u64, Failure> {
        match header.kind() {
            VIRTIO_BLK_T_IN => {
                let start = self.place(header, in_.bytes())?;
                in_.in_batches(|offset, slices| self.store.read_at(start + offset, slices))?;
                Ok(in_.bytes())
            }
            VIRTIO_BLK_T_OUT if self.readonly => Err(Failure::Error),
            VIRTIO_BLK_T_OUT => {
                let start = self.place(header, out.bytes())?;
                out.in_batches(|offset, slices| self.store.write_at(start + offset, slices))?;
                if stable {
                    self.store.flush()?;
                }
                Ok(0)
            }
            // Nothing was ever written.
            VIRTIO_BLK_T_FLUSH if self.readonly => Ok(0),
            VIRTIO_BLK_T_FLUSH => {
                self.store.flush()?;
                Ok(0)
            }
            VIRTIO_BLK_T_GET_ID => Ok(in_.write(&self.serial)? as u64),
            _ => Err(Failure::Unsupported),
        }
    }

    /// Where `bytes` bytes from the sector on start, if they are whole sectors and all on the disk.
    fn place(&self, header: &Header, bytes: u64) -> Result<u64, Failure> {
        let whole = bytes.is_multiple_of(SECTOR) && bytes <= REQUEST_MAX;
        let start = header.sector().checked_mul(SECTOR);
        let fits = |start: &u64| start.checked_add(bytes).is_some_and(|end| end <= self.store.bytes());
        start.filter(|start| whole && fits(start)).ok_or(Failure::Error)
    }
}

impl Backend for Block {
    const QUEUES: &'static [u16] = &[QUEUE_SIZE];

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let settings = settings(options)?;
        let image = if settings.readonly {
            declare::wish(Power::FileRead, "image", "the sectors that the guest reads")
        } else {
            declare::wish(Power::FileWrite, "image", "the sectors that the guest reads and writes")
        };
        Ok(virtio::manifest(Function {
            name: NAME,
            summary: "Virtio disk",
            class: Class::Block,
            kind: VIRTIO_ID_BLOCK,
            // Mass storage of no defined kind.
            pci_class: 0x01_80_00,
            queues: Self::QUEUES.len(),
            config_bytes: CONFIG_BYTES as u32,
            memory_because: "the guest puts its queue and its sectors wherever it likes in memory",
            wishes: vec![image],
            options: specs(),
        }))
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Block, AttachError> {
        let settings = settings(options)?;
        let image = powers.store(IMAGE)?;
        if !image.bytes().is_multiple_of(SECTOR) {
            return Err(AttachError::Unfit(format!("an image of {} bytes is not made of sectors", image.bytes())));
        }
        Ok(Block::new(image, settings.readonly, settings.serial))
    }

    fn features(&self) -> u64 {
        let always = [VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH];
        let readonly = u64::from(self.readonly) << VIRTIO_BLK_F_RO;
        always.iter().fold(readonly, |features, bit| features | 1 << bit)
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn serve(&mut self, Request { features, chain, .. }: Request<'_>) -> Result<Served, Broken> {
        let (header, out) = chain.readable.split_at(HEADER_BYTES);
        let (in_, status) = chain.writable.split_at(chain.writable.bytes().saturating_sub(1));
        if header.bytes() != HEADER_BYTES || status.bytes() != 1 {
            return Err(Broken::Short);
        }
        let mut head = Header([0; HEADER_BYTES as usize]);
        header.read(&mut head.0).map_err(|_| Broken::Failed)?;

        // A driver that does not know how to flush believes that what is written is safe (5.2.5.2).
        let stable = features & 1 << VIRTIO_BLK_F_FLUSH == 0;
        let (answer, written) = match self.request(&head, out, in_, stable) {
            Ok(written) => (VIRTIO_BLK_S_OK, written),
            Err(Failure::Error) => (VIRTIO_BLK_S_IOERR, 0),
            Err(Failure::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
        };
        status.write(&[answer as u8]).map_err(|_| Broken::Failed)?;
        // The status is the last byte; it counts only if there is no gap before it.
        let written = if written == in_.bytes() { written + 1 } else { written };
        // A flush may take long: the device looks at its registers before it goes on.
        let flushed = head.kind() == VIRTIO_BLK_T_FLUSH || stable && head.kind() == VIRTIO_BLK_T_OUT;
        let work = if flushed { virtio::WORK_PER_SCAN } else { HEADER_BYTES + out.bytes() + in_.bytes() };
        Ok(Served::Done { written: written as u32, work })
    }
}

struct Settings {
    readonly: bool,
    serial: [u8; ID_BYTES],
}

fn specs() -> Vec<OptionSpec> {
    let spec = |name: &str, kind, default: &str, summary: &str| OptionSpec {
        name: name.into(),
        kind,
        default: default.into(),
        summary: summary.into(),
    };
    vec![
        spec("readonly", OptionKind::Flag, "off", "the guest may not write"),
        spec("serial", OptionKind::Text, "", "what the disk calls itself: at most 20 ASCII characters"),
    ]
}

fn settings(options: &Options) -> Result<Settings, OptionError> {
    options.check(&specs())?;
    let text = options.text("serial").unwrap_or_default();
    let mut serial = [0; ID_BYTES];
    match serial.get_mut(..text.len()) {
        Some(start) if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => {
            start.copy_from_slice(text.as_bytes());
        }
        _ => {
            let wanted = "at most 20 printable ASCII characters";
            return Err(OptionError::Value { name: "serial".into(), value: text.into(), wanted });
        }
    }
    Ok(Settings { readonly: options.flag("readonly")?.unwrap_or(false), serial })
}

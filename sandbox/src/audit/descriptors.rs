//! The descriptors of a process.

use super::Process;
use crate::recipe::{DescriptorKind, Keep, Mode, Recipe, Stage};
use std::fmt::{Display, Formatter};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The start of the link of a memfd that holds guest memory.
const GUEST_MEMORY: &str = "/memfd:cofferdam:ram";
/// The start of the link of a memfd that stands in for a disk image: a file to who holds it.
const DISK: &str = "/memfd:cofferdam:disk";

/// An open descriptor of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    number: i32,
    /// `None`: nothing that any recipe keeps.
    kind: Option<DescriptorKind>,
    mode: Mode,
    /// Where its link leads.
    link: String,
    /// Size, of files and memfds.
    bytes: u64,
}

impl Display for Descriptor {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.number)?;
        match self.kind {
            Some(kind @ (DescriptorKind::File | DescriptorKind::Memory)) => {
                write!(f, "{kind} to {}, {}", self.mode, self.link)
            }
            Some(kind @ DescriptorKind::Pipe) => write!(f, "{kind} to {}", self.mode),
            Some(kind) => write!(f, "{kind}"),
            None => write!(f, "{}, to {}", self.link, self.mode),
        }
    }
}

/// All of them, by number; with `each`, of all threads' tables one after the other, for there each has its own.
pub(super) fn of(process: &Process, each: bool) -> io::Result<Vec<Descriptor>> {
    if !each {
        return of_table(&process.path(""));
    }
    let mut found = Vec::new();
    for task in std::fs::read_dir(process.path("task"))? {
        found.extend(of_table(&task?.path())?);
    }
    Ok(found)
}

/// Those of the table of a process or thread, whose directory this is.
fn of_table(directory: &Path) -> io::Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory.join("fd"))? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match look(directory, number, &entry.path()) {
            // Closed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            looked => found.push(looked?),
        }
    }
    found.sort_by_key(|descriptor: &Descriptor| descriptor.number);
    Ok(found)
}

fn look(directory: &Path, number: i32, path: &Path) -> io::Result<Descriptor> {
    let link = std::fs::read_link(path)?.to_string_lossy().into_owned();
    // Opens nothing: stat follows the link to the object itself, not to its name.
    let metadata = std::fs::metadata(path)?;
    let info = std::fs::read_to_string(directory.join(format!("fdinfo/{number}")))?;
    Ok(Descriptor { number, kind: kind(&link, &metadata), mode: mode(&info), bytes: metadata.len(), link })
}

/// Tells listeners and connections from channels. All of them belong to the network namespace of this process, in which they were
/// made, whatever that of their holder is.
pub(super) fn tell_sockets_apart(descriptors: &mut [Descriptor]) -> io::Result<()> {
    let channels = numbers(&std::fs::read_to_string("/proc/self/net/unix")?, 6, |_| true);
    let mut listeners = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        match std::fs::read_to_string(table) {
            Ok(table) => listeners.extend(numbers(&table, 9, |fields| fields.get(3) == Some(&LISTENS))),
            // A kernel without that protocol.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for descriptor in descriptors.iter_mut().filter(|descriptor| descriptor.kind == Some(DescriptorKind::Channel)) {
        let number = descriptor.link.strip_prefix("socket:[").and_then(|link| link.strip_suffix(']'));
        let is_of = |numbers: &[String]| number.is_some_and(|number| numbers.iter().any(|known| known == number));
        descriptor.kind = Some(match (is_of(&channels), is_of(&listeners)) {
            (true, _) => DescriptorKind::Channel,
            (false, true) => DescriptorKind::Listener,
            // One that has ended is in no table any more.
            (false, false) => DescriptorKind::Connection,
        });
    }
    Ok(())
}

/// How a table of TCP sockets has the state of one that listens (`TCP_LISTEN` of <net/tcp_states.h>).
const LISTENS: &str = "0A";

/// Numbers of the sockets of a table of the kernel whose lines are such; the number is the field at `place`.
fn numbers(table: &str, place: usize, is_such: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|fields| is_such(fields)).filter_map(|fields| Some((*fields.get(place)?).to_owned())).collect()
}

fn kind(link: &str, metadata: &std::fs::Metadata) -> Option<DescriptorKind> {
    let file_type = metadata.file_type();
    if file_type.is_socket() {
        return Some(DescriptorKind::Channel);
    }
    // Not a FIFO of a file system: that could be opened by others.
    if file_type.is_fifo() && link.starts_with("pipe:[") {
        return Some(DescriptorKind::Pipe);
    }
    match link {
        "anon_inode:[eventfd]" => return Some(DescriptorKind::Eventfd),
        "anon_inode:kvm-vm" => return Some(DescriptorKind::KvmMachine),
        _ if link.starts_with("anon_inode:kvm-vcpu:") => return Some(DescriptorKind::KvmProcessor),
        _ if link.starts_with(DISK) => return Some(DescriptorKind::File),
        _ if link.starts_with("/memfd:") && metadata.nlink() == 0 => return Some(DescriptorKind::Memory),
        _ => {}
    }
    if file_type.is_file() || file_type.is_block_device() {
        return Some(DescriptorKind::File);
    }
    if file_type.is_char_device() {
        // <linux/miscdevice.h>: major 10; minor 232 is KVM, 200 is tun.
        return match (libc::major(metadata.rdev()), libc::minor(metadata.rdev())) {
            (10, 232) => Some(DescriptorKind::Kvm),
            (10, 200) => Some(DescriptorKind::Tap),
            _ => None,
        };
    }
    None
}

/// The access mode of the open file, from the octal flags of its fdinfo.
fn mode(info: &str) -> Mode {
    let flags = info.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    match flags.unwrap_or(libc::O_RDWR) & libc::O_ACCMODE {
        libc::O_RDONLY => Mode::Read,
        libc::O_WRONLY => Mode::Write,
        _ => Mode::Both,
    }
}

/// Guest memory that is held as a descriptor and could be mapped at any time.
pub(super) fn guest_bytes(descriptors: &[Descriptor]) -> u64 {
    let guest = |descriptor: &&Descriptor| {
        descriptor.kind == Some(DescriptorKind::Memory) && descriptor.link.starts_with(GUEST_MEMORY)
    };
    descriptors.iter().filter(guest).map(|descriptor| descriptor.bytes).sum()
}

/// Bytes of the largest file that may be written. A block device has its size elsewhere: a writer of one may have any
/// limit.
pub(super) fn largest_writable(descriptors: &[Descriptor]) -> u64 {
    let writable = descriptors
        .iter()
        .filter(|descriptor| descriptor.kind == Some(DescriptorKind::File) && descriptor.mode.covers(Mode::Write));
    writable.map(|file| if file.link.starts_with("/dev/") { u64::MAX } else { file.bytes }).max().unwrap_or(0)
}

/// Compares the table with what the recipe keeps, as a multiset of kinds; of files and pipes also by access mode. The
/// direction in which an eventfd or a socket is used is not a property of the object: only the filter sees to that.
pub(super) fn compare(differences: &mut Vec<String>, have: &[Descriptor], recipe: &Recipe, stage: Stage) {
    for descriptor in have {
        let kept = |kind| recipe.held_at(stage).any(|keep| keep.kind == kind);
        if !descriptor.kind.is_some_and(kept) {
            differences.push(format!("it holds descriptor {descriptor}, of a kind that its recipe does not keep"));
        }
    }
    let mut kinds: Vec<DescriptorKind> = recipe.held_at(stage).map(|keep| keep.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let keeps: Vec<&Keep> = recipe.held_at(stage).filter(|keep| keep.kind == kind).collect();
        let held: Vec<&Descriptor> = have.iter().filter(|descriptor| descriptor.kind == Some(kind)).collect();
        let (least, most) =
            keeps.iter().fold((0, 0), |(least, most), keep| (least + keep.count.least(), most + keep.count.most()));
        let count = held.len() as u32;
        if count < least || count > most {
            let wanted = if least == most { format!("{most}") } else { format!("{least} to {most}") };
            let words: Vec<String> = keeps.iter().map(|keep| format!("{} {}", keep.count, keep.purpose)).collect();
            differences
                .push(format!("it holds {count} of {kind} where its recipe keeps {wanted} ({})", words.join(", ")));
        }
        if matches!(kind, DescriptorKind::File | DescriptorKind::Memory | DescriptorKind::Pipe) {
            let writable =
                keeps.iter().filter(|keep| keep.mode.covers(Mode::Write)).map(|keep| keep.count.most()).sum();
            let written = held.iter().filter(|descriptor| descriptor.mode.covers(Mode::Write)).count() as u32;
            if written > writable {
                differences.push(format!("it may write {written} of {kind} where its recipe lets it write {writable}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Count;
    use schema::host::Level;

    fn descriptor(number: i32, kind: Option<DescriptorKind>, mode: Mode) -> Descriptor {
        Descriptor { number, kind, mode, link: "/image".into(), bytes: 512 }
    }

    fn differences(have: &[Descriptor]) -> Vec<String> {
        let recipe = Recipe::host(Level::Seccomp, &[]).keep(
            DescriptorKind::File,
            Mode::Read,
            Count::Exactly(1),
            "file",
            "an image to read",
        );
        let mut differences = Vec::new();
        compare(&mut differences, have, &recipe, Stage::Sealed);
        differences
    }

    /// Channel, wake and irq, and an image.
    fn honest(image: Mode) -> Vec<Descriptor> {
        vec![
            descriptor(3, Some(DescriptorKind::Channel), Mode::Both),
            descriptor(4, Some(DescriptorKind::Eventfd), Mode::Both),
            descriptor(5, Some(DescriptorKind::Eventfd), Mode::Both),
            descriptor(6, Some(DescriptorKind::File), image),
        ]
    }

    #[test]
    fn a_table_as_the_recipe_says_has_no_difference() {
        assert_eq!(differences(&honest(Mode::Read)), Vec::<String>::new());
    }

    #[test]
    fn an_image_open_for_writing_is_seen() {
        assert_eq!(differences(&honest(Mode::Both)), ["it may write 1 of file where its recipe lets it write 0"]);
    }

    #[test]
    fn a_directory_is_seen() {
        let mut have = honest(Mode::Read);
        have.push(descriptor(7, None, Mode::Read));
        assert_eq!(
            differences(&have),
            ["it holds descriptor 7: /image, to read, of a kind that its recipe does not keep"]
        );
    }

    #[test]
    fn a_pipe_open_the_other_way_is_seen() {
        let recipe = Recipe::host_over(Level::Seccomp, &[], &[]).keep(
            DescriptorKind::Pipe,
            Mode::Read,
            Count::Exactly(1),
            "asked",
            "a lane's accesses",
        );
        let mut have = honest(Mode::Read);
        for (mode, expected) in [(Mode::Read, 0), (Mode::Write, 1)] {
            have[3] = descriptor(6, Some(DescriptorKind::Pipe), mode);
            let mut differences = Vec::new();
            compare(&mut differences, &have, &recipe, Stage::Sealed);
            assert_eq!(differences.len(), expected, "{differences:?}");
        }
    }

    #[test]
    fn a_relay_that_listens_elsewhere_or_has_another_channel_is_seen() {
        use std::net::TcpListener;
        use std::os::fd::AsRawFd;
        let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let connected = std::net::TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let (channel, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let seen = |sockets: &[i32]| {
            let mut have: Vec<Descriptor> =
                (10..15).map(|number| descriptor(number, Some(DescriptorKind::Eventfd), Mode::Both)).collect();
            have.extend(sockets.iter().map(|number| {
                let path = format!("/proc/self/fd/{number}");
                look(Path::new("/proc/self"), *number, Path::new(&path)).unwrap()
            }));
            tell_sockets_apart(&mut have).unwrap();
            let mut differences = Vec::new();
            compare(&mut differences, &have, &Recipe::display_relay(Level::Seccomp, 1), Stage::Sealed);
            differences
        };
        let [one, two] = listeners.each_ref().map(AsRawFd::as_raw_fd);
        let (channel, other, connected) = (channel.as_raw_fd(), other.as_raw_fd(), connected.as_raw_fd());
        assert_eq!(seen(&[channel, one]), Vec::<String>::new());
        assert_eq!(seen(&[channel, one, connected]), Vec::<String>::new());
        assert_eq!(seen(&[channel, one, two]), ["it holds 2 of listener where its recipe keeps 1 (1 listener)"]);
        assert_eq!(seen(&[channel, one, other]), ["it holds 2 of socket where its recipe keeps 1 (1 channel)"]);
        assert_eq!(seen(&[channel, one, connected, connected, connected, connected, connected]).len(), 1);
    }

    #[test]
    fn a_missing_descriptor_is_seen() {
        let have = &honest(Mode::Read)[..3];
        assert_eq!(differences(have), ["it holds 0 of file where its recipe keeps 1 (1 file)"]);
    }
}

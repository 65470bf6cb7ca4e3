//! Viewers of a machine's display by VNC, with real processes: one that somebody else wrote, and some that are up to no good.

mod harness;
#[path = "harness/python.rs"]
mod python;

use harness::{Place, Vm, display_guest, idle_guest, kvm, lives, root, send, text, wait_until};
use rfb::{CHALLENGE_BYTES, Door, GUESSES_MAX, PASSWORD_BYTES};
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const PASSWORD: &str = "secret";
/// The process that shows the screen.
const RELAY: &str = "vga display relay";
/// An answer that comes at all comes within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with viewers.
struct Seen<'a> {
    place: &'a Place,
    vm: Vm<'a>,
    port: u16,
}

impl Seen<'_> {
    fn start<'a>(place: &'a Place, words: &[&str]) -> Seen<'a> {
        let file = password(place);
        let display = format!("vnc,password-file={}", file.display());
        let words = [&["--device", "vga", "--display", &display], words].concat();
        let vm = place.start("seen", &display_guest(), &words);
        wait_until("the guest has drawn", || vm.console().contains(&b'r'));
        let said = vm.errors();
        let port =
            said.lines().find_map(|line| line.strip_prefix("cofferdam: viewers of seen connect to 127.0.0.1, port "));
        let port = port.unwrap_or_else(|| panic!("no port in {said}")).parse().expect("a port");
        Seen { place, vm, port }
    }

    /// Somebody else's viewer.
    fn viewer(&self, interpreter: &Path, password: &str, deeds: &[&str]) -> Output {
        let mut command = Command::new(interpreter);
        command.args(["-W", "ignore"]).arg(root().join("tests/viewer.py"));
        command.arg(self.port.to_string()).arg(password).args(deeds).output().expect("a viewer")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A viewer of our own that has been let in. Gives the size of the screen.
    fn enter(&self) -> (TcpStream, (u16, u16)) {
        let mut stream = self.connect();
        answer(&mut stream, PASSWORD);
        assert_eq!(take::<4>(&mut stream), [0; 4], "it is let in");
        stream.write_all(&[1]).unwrap();
        let start = take::<24>(&mut stream);
        let name = u32::from_be_bytes([start[20], start[21], start[22], start[23]]) as usize;
        stream.read_exact(&mut vec![0; name]).unwrap();
        let size = (u16::from_be_bytes([start[0], start[1]]), u16::from_be_bytes([start[2], start[3]]));
        (stream, size)
    }

    /// What `cofferdam screenshot` shows, as bytes of red, green and blue.
    fn screenshot(&self) -> Vec<u8> {
        let file = self.place.path("picture.png");
        let output = self.place.run(&["screenshot", "seen", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut reader = png::Decoder::new(BufReader::new(File::open(file).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    }

    /// What the guest read from its keyboard: it draws it in its second row.
    fn typed(&self) -> Vec<u8> {
        let picture = self.screenshot();
        let row = &picture[640 * 3..2 * 640 * 3];
        row.as_chunks::<3>().0.iter().map(|pixel| pixel[2]).take_while(|code| *code != 0).collect()
    }

    fn relay(&self) -> i32 {
        self.vm.host(RELAY)["pid"].as_i64().unwrap() as i32
    }
}

fn password(place: &Place) -> PathBuf {
    let file = place.file("password", PASSWORD.as_bytes());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn take<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Up to the answer of the challenge.
fn answer(stream: &mut TcpStream, password: &str) {
    assert_eq!(take(stream), *b"RFB 003.008\n");
    stream.write_all(b"RFB 003.008\n").unwrap();
    assert_eq!(take(stream), [1, 2], "a password is the one way in");
    stream.write_all(&[2]).unwrap();
    let challenge: [u8; CHALLENGE_BYTES] = take(stream);
    let mut key = [0; PASSWORD_BYTES];
    key[..password.len()].copy_from_slice(password.as_bytes());
    stream.write_all(&Door::new(key).answer(&challenge)).unwrap();
}

/// Whatever comes until the other side hangs up.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Who hangs up on somebody who has said more than was heard resets the connection.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn asks(changes: u8, width: u16, height: u16) -> Vec<u8> {
    [&[3, changes, 0, 0, 0, 0][..], &width.to_be_bytes(), &height.to_be_bytes()].concat()
}

fn sees_and_types(words: &[&str]) {
    if !kvm() {
        return;
    }
    let Some(interpreter) = python::viewer() else { return };
    let place = Place::new();
    let seen = Seen::start(&place, words);
    let file = place.path("viewer.rgb");
    let look = || {
        let output = seen.viewer(interpreter, PASSWORD, &["picture", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(&file).unwrap()
    };
    assert_eq!(seen.screenshot().len(), 640 * 480 * 3);
    assert!(look() == seen.screenshot(), "{words:?}: the viewer sees another picture");
    let output = seen.viewer(interpreter, PASSWORD, &["type", "a", "hold", "Shift,B", "hold", "Ctrl,Alt,Delete"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let codes = [0x1e, 0x9e, 0x2a, 0x30, 0xb0, 0xaa, 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];
    wait_until("all keys have arrived", || seen.typed() == codes);
    assert!(look() == seen.screenshot(), "{words:?}: the viewer does not see what was typed");
    let row = seen.vm.host(RELAY);
    assert_eq!((&row["state"], &row["restarts"]), (&"running".into(), &0.into()));
    assert_eq!(row["differences"], serde_json::json!([]), "{words:?}");
}

#[test]
fn a_viewer_sees_what_is_drawn_and_types() {
    sees_and_types(&[]);
}

#[test]
fn a_viewer_sees_and_types_where_hosts_are_strict_and_lanes_are_sockets() {
    sees_and_types(&["--sandbox", "strict", "--carrier", "socket"]);
}

#[test]
fn a_viewer_sees_and_types_where_devices_are_linked_into_the_vmm() {
    sees_and_types(&["--isolate", "none"]);
}

#[test]
fn a_viewer_sees_and_types_where_nothing_is_confined() {
    sees_and_types(&["--sandbox", "off"]);
}

#[test]
fn who_does_not_know_the_password_is_shown_nothing_and_may_guess_five_times() {
    if !kvm() {
        return;
    }
    let Some(interpreter) = python::viewer() else { return };
    let place = Place::new();
    let seen = Seen::start(&place, &[]);
    let refused = |said: &str| {
        let output = seen.viewer(interpreter, "secreT", &["picture", "/nowhere"]);
        let errors = text(&output.stderr);
        assert!(!output.status.success() && errors.contains(said), "{errors}");
    };
    refused("PermissionError: Auth failed");
    for _ in 1..GUESSES_MAX {
        let mut stream = seen.connect();
        answer(&mut stream, "guess");
        assert_eq!(rest(&mut stream), b"\0\0\0\x01\0\0\0\x0ewrong password");
    }
    // Who knows it is not heard either.
    let output = seen.viewer(interpreter, PASSWORD, &["picture", "/nowhere"]);
    let errors = text(&output.stderr);
    assert!(!output.status.success() && errors.contains("too many wrong passwords; try again in a minute"), "{errors}");
    let logs = text(&place.run(&["logs", "seen"]).stdout);
    assert!(logs.contains("a viewer is sent away: it does not know the password"), "{logs}");
    assert_eq!(seen.vm.host(RELAY)["state"], "running");
}

#[test]
fn viewers_are_on_this_machine() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let seen = Seen::start(&place, &[]);
    let listening = |table: &str| -> Vec<String> {
        let table = fs::read_to_string(table).unwrap_or_default();
        let port = format!(":{:04X}", seen.port);
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = rows.filter(|row| row.len() > 3 && row[3] == "0A" && row[1].ends_with(&port));
        ours.map(|row| row[1].trim_end_matches(&port).to_owned()).collect()
    };
    assert_eq!(listening("/proc/net/tcp"), ["0100007F"], "127.0.0.1 alone");
    let six = listening("/proc/net/tcp6");
    assert!(six.iter().all(|address| address == "00000000000000000000000001000000"), "::1 alone: {six:?}");
    // No packet is sent: the kernel says which of our addresses it would come from.
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    });
    match own {
        Ok(own @ IpAddr::V4(four)) if !four.is_loopback() => {
            assert!(TcpStream::connect((own, seen.port)).is_err(), "it is reached at {own}");
        }
        _ => println!("this machine has no address but its own"),
    }
    drop(seen.enter());
}

#[test]
fn relay_that_is_killed_comes_back_and_what_its_viewer_held_is_let_go() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let seen = Seen::start(&place, &[]);
    let (mut stream, size) = seen.enter();
    assert_eq!(size, (640, 480));
    stream.write_all(&[4, 1, 0, 0, 0, 0, 0xff, 0xe3]).unwrap();
    wait_until("the key has arrived", || seen.typed() == [0x1d]);
    let before = seen.relay();
    send(before, libc::SIGKILL);
    assert!(rest(&mut stream).is_empty());
    wait_until("the relay is started anew", || seen.vm.host(RELAY)["state"] == "running" && seen.relay() != before);
    wait_until("the key is let go", || seen.typed() == [0x1d, 0x9d]);
    let (mut stream, _) = seen.enter();
    stream.write_all(&[4, 1, 0, 0, 0, 0, 0, b'a', 4, 0, 0, 0, 0, 0, 0, b'a']).unwrap();
    wait_until("the guest takes what is typed", || seen.typed() == [0x1d, 0x9d, 0x1e, 0x9e]);
    let row = seen.vm.host(RELAY);
    assert_eq!((&row["restarts"], &row["differences"]), (&1.into(), &serde_json::json!([])));
    assert_eq!(seen.vm.host("vga")["restarts"], 0);
}

#[test]
fn viewers_that_are_up_to_no_good_harm_nobody() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let seen = Seen::start(&place, &[]);
    let relay = seen.relay();
    // One that takes nothing of what it asks for, again and again.
    let (mut deaf, _) = seen.enter();
    deaf.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    for _ in 0..200 {
        if deaf.write_all(&asks(0, 640, 480)).is_err() {
            break;
        }
    }
    // One that says nothing, and one that says too much.
    let mut silent = seen.connect();
    for nonsense in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0xff; 4096], b"RFB 003.008\n\x01"] {
        let mut stream = seen.connect();
        assert_eq!(take(&mut stream), *b"RFB 003.008\n");
        stream.write_all(nonsense).unwrap();
        rest(&mut stream);
    }
    for endless in [&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &[255, 1, 2, 3], &[0; 20]] {
        let (mut stream, _) = seen.enter();
        stream.write_all(endless).unwrap();
        assert!(rest(&mut stream).is_empty());
    }
    // Another one beside them sees and types.
    let (mut good, size) = seen.enter();
    for byte in asks(0, size.0, size.1) {
        good.write_all(&[byte]).unwrap();
    }
    let [0, 0, high, low] = take(&mut good) else { panic!("no picture") };
    assert_eq!(u16::from_be_bytes([high, low]), 80, "all tiles of the screen");
    good.write_all(&[4, 1, 0, 0, 0, 0, 0, b'a', 4, 0, 0, 0, 0, 0, 0, b'a']).unwrap();
    wait_until("the guest takes what is typed", || seen.typed() == [0x1e, 0x9e]);
    assert_eq!(seen.vm.host(RELAY)["differences"], serde_json::json!([]), "with three viewers");
    assert!(lives(relay.into()) && seen.relay() == relay);
    // Who says nothing makes room for others after a while.
    rest(&mut silent);
    drop(deaf);
}

#[test]
fn who_comes_to_a_full_house_waits_until_somebody_leaves() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let seen = Seen::start(&place, &[]);
    let mut inside: Vec<_> = (0..sandbox::VIEWERS_MAX).map(|_| seen.enter()).collect();
    let mut waits = seen.connect();
    waits.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(waits.read(&mut [0]).is_err(), "it is not spoken to");
    assert_eq!(seen.vm.host(RELAY)["differences"], serde_json::json!([]));
    drop(inside.pop());
    waits.set_read_timeout(Some(PATIENCE)).unwrap();
    answer(&mut waits, PASSWORD);
    assert_eq!(take::<4>(&mut waits), [0; 4]);
}

#[test]
fn what_cannot_be_shown_to_anybody_is_refused_in_a_sentence() {
    let place = Place::new();
    let file = password(&place);
    let open = place.file("open", b"secret");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let long = place.file("long", b"too long a password");
    fs::set_permissions(&long, fs::Permissions::from_mode(0o600)).unwrap();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let guest = place.file("guest", &idle_guest());
    let vnc = |file: &Path| format!("vnc,password-file={}", file.display());
    let port = format!("{},port={}", vnc(&file), taken.local_addr().unwrap().port());
    for (display, vga, said) in [
        ("vnc", true, "nobody is shown a display without a password"),
        (&vnc(&file), false, "--display vnc: this machine has no display; add one with `--device vga`"),
        (&vnc(&open), true, "others may read it; `chmod 600` makes it yours"),
        (&vnc(&long), true, "give one line of 1 to 8 bytes"),
        (&port, true, "cannot be had"),
    ] {
        let vga: &[&str] = if vga { &["--device", "vga"] } else { &[] };
        let words = [&["run", "--flat", guest.to_str().unwrap(), "--display", display], vga].concat();
        let output = place.run(&words);
        let sentence = text(&output.stderr);
        assert!(!output.status.success() && sentence.contains(said), "{display}: {sentence}");
    }
}

//! A display relay: between viewers on this machine and what a display has drawn, which it may only read.
//!
//! It holds the sockets where viewers connect, and their connections. What it knows of the guest is the picture; what viewers
//! do it says in a byte ring, which the supervisor reads, and by an eventfd that somebody wants to see more. What is said on a
//! connection is for the `rfb` crate to understand. Nothing of it is missed when it ends: viewers connect anew.
#![allow(unsafe_code)] // A connection is a number that the kernel has just given.

use crate::grants::{held_wake, missing, once, receive};
use crate::run::{CHANNEL, Ready, Role, Setup, fail, leave_on_panic, say};
use device::{KernelRandom, RandomSource};
use imc::{Descriptors, DeviceEnd, Frozen, Listener, Mapping, ReadOnly, ReadWrite, Region, STREAM_BYTES, Wake};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, accept4};
use nix::unistd::{close, read, write};
use rfb::{CHALLENGE_BYTES, Door, Hands, PASSWORD_BYTES, Picture, Viewer};
use sandbox::{DescriptorKind, Held, Mode, Recipe, Sealed, VIEWERS_MAX};
use schema::display::{INPUT_BYTES, SCANOUT_BYTES, SCANOUT_HEADER_BYTES, Scanout};
use schema::host::{Grants, HOST_WIDE, Level, Purpose, Severity};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;

/// Listeners: of each address of the loopback interface one.
const LISTENERS_MAX: usize = 2;
/// Who has connected is to know the password within this, and then makes room for another.
const LET_IN: Duration = Duration::from_secs(10);
/// Who takes nothing of what is said to it for so long is gone.
const STALLED: Duration = Duration::from_secs(60);
/// The last words to a viewer that is refused are on their way for so long at most.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often a viewer is shown something new at most, 25 times a second...
const PERIOD: Duration = Duration::from_millis(40);
/// ...and at least: a display is asked twice as rarely each time when nothing changes.
const PERIOD_MAX: Duration = Duration::from_millis(320);
/// How often it is looked whether a display that was asked has drawn.
const LOOK: Duration = Duration::from_millis(4);
/// Bytes of a viewer that are taken before the next one has its turn.
const HEARD_MAX: usize = 4096;
/// Times that a viewer is shown more before the next one has its turn.
const SHOWN_MAX: usize = 8;

/// The body of a display relay.
///
/// The order is that of a host. It is told no device.
pub fn show() -> ! {
    leave_on_panic();
    match sealed() {
        Ok((mut show, sealed)) => {
            let Err(error) = show.go_on(&sealed);
            fail(&format!("the kernel refused to let the relay sleep or ring: {error}"))
        }
        Err(sentence) => fail(&sentence),
    }
}

fn sealed() -> Result<(Show, Sealed), String> {
    let (mut setup, confined) = Setup::begin()?;
    let level = setup.assign_nothing()?;
    let ready = setup.grants(Assigned { level, ..Assigned::default() })?;
    setup.seal(ready, confined, |_| Ok(()))
}

/// What a relay is to be.
struct Assigned {
    level: Level,
    listeners: Vec<Listener>,
    screen: Option<Region<ReadOnly>>,
    password: Option<Region<Frozen>>,
    ring: Option<Region<ReadWrite>>,
    bell: Option<Wake>,
    wanted: Option<Wake>,
}

impl Default for Assigned {
    fn default() -> Assigned {
        Assigned {
            level: Level::Seccomp,
            listeners: Vec::new(),
            screen: None,
            password: None,
            ring: None,
            bell: None,
            wanted: None,
        }
    }
}

impl Role for Assigned {
    type Work = Show;

    fn take(&mut self, grants: Grants, mut descriptors: Descriptors) -> Result<(), String> {
        for grant in grants.grants {
            let descriptor = descriptors.take(grant.handle.slot).ok_or("a grant names no descriptor of its own")?;
            match grant.purpose {
                _ if grant.device != HOST_WIDE => return Err("a relay has no devices".into()),
                Purpose::Listener if self.listeners.len() < LISTENERS_MAX => {
                    self.listeners.push(receive(&grant, descriptor)?);
                }
                Purpose::Screen => once(&mut self.screen, receive(&grant, descriptor)?, "screen")?,
                Purpose::Password => once(&mut self.password, receive(&grant, descriptor)?, "password")?,
                Purpose::Stream => once(&mut self.ring, receive(&grant, descriptor)?, "stream")?,
                Purpose::Bell => once(&mut self.bell, receive(&grant, descriptor)?, "bell")?,
                Purpose::Wanted => once(&mut self.wanted, receive(&grant, descriptor)?, "wanted")?,
                purpose => return Err(format!("{purpose:?} is not for a display relay")),
            }
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<Ready<Show>, String> {
        fn map<R: imc::Rights>(region: &Region<R>, bytes: u64, what: &str) -> Result<Mapping, String> {
            if region.bytes() < bytes {
                return Err(format!("the region of `{what}` is too small"));
            }
            region.map().map_err(|error| format!("`{what}` cannot be mapped: {error}"))
        }
        let mut password = [0; PASSWORD_BYTES];
        let secret = self.password.take().ok_or_else(|| missing("password"))?;
        map(&secret, PASSWORD_BYTES as u64, "password")?.read(0, &mut password);
        let screen = map(&self.screen.take().ok_or_else(|| missing("screen"))?, SCANOUT_BYTES, "screen")?;
        let ring = map(&self.ring.take().ok_or_else(|| missing("stream"))?, STREAM_BYTES, "stream")?;
        let bell = self.bell.take().ok_or_else(|| missing("bell"))?;
        let wanted = self.wanted.take().ok_or_else(|| missing("wanted"))?;
        let listeners = std::mem::take(&mut self.listeners);
        if listeners.is_empty() {
            return Err(missing("listener"));
        }
        let listening =
            |listener: &Listener| Held::new(listener.as_fd().as_raw_fd(), DescriptorKind::Listener, Mode::Read);
        let mut held: Vec<Held> =
            (0..CHANNEL).map(|number| Held::new(number, DescriptorKind::Eventfd, Mode::Read)).collect();
        held.push(Held::new(CHANNEL, DescriptorKind::Channel, Mode::Write));
        held.extend(listeners.iter().map(listening));
        held.extend([held_wake(&bell, Mode::Write), held_wake(&wanted, Mode::Write)]);
        let free: Vec<RawFd> =
            (0..).filter(|number| held.iter().all(|held| held.number != *number)).take(VIEWERS_MAX as usize).collect();
        held.extend(free.into_iter().map(|number| Held::new(number, DescriptorKind::Connection, Mode::Both)));
        let recipe = Recipe::display_relay(self.level, listeners.len() as u32);
        let ring = DeviceEnd::new(ring, bell);
        Ok(Ready { recipe, held, work: Show::new(Door::new(password), listeners, screen, ring, wanted) })
    }
}

/// Where a viewer is, or may be.
struct Seat {
    viewer: Viewer,
    connection: Option<OwnedFd>,
    /// When it connected.
    since: Duration,
    /// When it took something last, or had nothing to take.
    taken: Duration,
    /// It is refused, since then; it is still told why.
    refused: Option<Duration>,
}

/// All that a display relay has.
struct Show {
    door: Door,
    hands: Hands,
    picture: Picture,
    screen: Mapping,
    /// Of the picture that was looked at last.
    generation: u64,
    listeners: Vec<Listener>,
    seats: Vec<Seat>,
    ring: DeviceEnd,
    /// Bytes that were put into the ring.
    told: u32,
    wanted: Wake,
    start: Instant,
    /// When the display was asked last, and how long that is to be ago when it is asked again.
    asked_at: Duration,
    period: Duration,
    /// It was asked, and has not drawn yet.
    asked: bool,
}

impl Show {
    fn new(door: Door, listeners: Vec<Listener>, screen: Mapping, ring: DeviceEnd, wanted: Wake) -> Show {
        let seat = || Seat {
            viewer: Viewer::new(),
            connection: None,
            since: Duration::ZERO,
            taken: Duration::ZERO,
            refused: None,
        };
        Show {
            door,
            hands: Hands::new(),
            picture: Picture::new(),
            screen,
            generation: 0,
            listeners,
            seats: (0..VIEWERS_MAX).map(|_| seat()).collect(),
            told: ring.published().0,
            ring,
            wanted,
            start: Instant::now(),
            asked_at: Duration::ZERO,
            period: PERIOD,
            asked: false,
        }
    }

    /// Shows viewers the screen, for ever. Only a sealed process may.
    fn go_on(&mut self, _: &Sealed) -> std::io::Result<Infallible> {
        loop {
            self.turn()?;
        }
    }

    /// Sleeps until there is something to do, and does it.
    fn turn(&mut self) -> std::io::Result<()> {
        let ready = self.sleep()?;
        let now = self.start.elapsed();
        for at in 0..self.listeners.len() {
            if ready.listeners[at] {
                self.accept(at, now)?;
            }
        }
        for at in 0..self.seats.len() {
            if ready.seats[at] {
                self.hear(at, now);
            }
        }
        self.tell();
        self.look(now)?;
        for at in 0..self.seats.len() {
            self.serve(at, now);
        }
        Ok(())
    }

    fn sleep(&self) -> std::io::Result<Happened> {
        let now = self.start.elapsed();
        let mut polled = Vec::with_capacity(LISTENERS_MAX + VIEWERS_MAX as usize);
        let mut sources = Vec::with_capacity(polled.capacity());
        if self.seats.iter().any(|seat| seat.connection.is_none()) {
            for (at, listener) in self.listeners.iter().enumerate() {
                polled.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
                sources.push(Source::Listener(at));
            }
        }
        for (at, seat) in self.seats.iter().enumerate() {
            let Some(connection) = &seat.connection else { continue };
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, seat.viewer.has_more() || !seat.viewer.output().is_empty());
            polled.push(PollFd::new(connection.as_fd(), events));
            sources.push(Source::Seat(at));
        }
        let wait = self.due(now).map_or(PollTimeout::NONE, |due| {
            // Rounded up, so that what is due is not looked for a moment too early, again and again.
            let left = due.saturating_sub(now) + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut happened = Happened::default();
        for (source, polled) in sources.iter().zip(&polled) {
            let any = polled.revents().is_some_and(|seen| !seen.is_empty());
            match source {
                Source::Listener(at) => happened.listeners[*at] = any,
                Source::Seat(at) => happened.seats[*at] = any,
            }
        }
        Ok(happened)
    }

    /// When there is something to do though nothing happens.
    fn due(&self, now: Duration) -> Option<Duration> {
        let seats = self.seats.iter().filter(|seat| seat.connection.is_some());
        let patience = seats.filter_map(Seat::gone_at);
        let look = self.is_wanted().then(|| {
            let again = self.asked_at + self.period;
            if self.asked { again.min(now + LOOK) } else { again }
        });
        let tell = self.hands.has_more().then(|| now + PERIOD);
        patience.chain(look).chain(tell).min()
    }

    fn is_wanted(&self) -> bool {
        self.seats.iter().any(|seat| seat.connection.is_some() && seat.viewer.wants_picture())
    }

    /// Lets a viewer take a seat.
    fn accept(&mut self, listener: usize, now: Duration) -> std::io::Result<()> {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.connection.is_none()) else { return Ok(()) };
        let listener = self.listeners[listener].as_fd().as_raw_fd();
        // Whoever has gone meanwhile is not accepted.
        let Ok(number) = accept4(listener, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) else { return Ok(()) };
        // SAFETY: the kernel has just given us this number, and nobody else has it.
        let connection = unsafe { OwnedFd::from_raw_fd(number) };
        let mut challenge = [0; CHALLENGE_BYTES];
        KernelRandom.fill(&VolatileSlice::from(&mut challenge[..]))?;
        seat.viewer.greet(challenge);
        (seat.connection, seat.since, seat.taken, seat.refused) = (Some(connection), now, now, None);
        Ok(())
    }

    /// Takes what a viewer says.
    fn hear(&mut self, at: usize, now: Duration) {
        let seat = &mut self.seats[at];
        let Some(connection) = &seat.connection else { return };
        let mut bytes = [0; HEARD_MAX];
        match read(connection, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(0) | Err(_) => seat.leave(&mut self.hands),
            // It may say what it likes until it has heard why it is not listened to.
            Ok(_) if seat.refused.is_some() => {}
            Ok(count) => {
                if let Err(why) = seat.viewer.take(&bytes[..count], &mut self.door, &mut self.hands, now) {
                    say(Severity::Warning, &format!("a viewer is sent away: {why}"));
                    seat.refused = Some(now);
                }
                // Who does something wants to see what comes of it.
                self.period = PERIOD;
            }
        }
    }

    /// Puts what viewers did where the supervisor reads it.
    fn tell(&mut self) {
        while self.ring.room(self.told) >= INPUT_BYTES
            && let Some(record) = self.hands.take()
        {
            for byte in record {
                self.ring.put(self.told, byte);
                self.told = self.told.wrapping_add(1);
            }
        }
        let (_, taken) = self.ring.published();
        self.ring.publish(self.told, taken);
    }

    /// Looks at the screen if the display has drawn, and has it drawn anew when somebody wants that.
    fn look(&mut self, now: Duration) -> std::io::Result<()> {
        if !self.is_wanted() {
            return Ok(());
        }
        if let Some(header) = self.header().filter(|header| header.is_whole() && header.generation != self.generation) {
            self.generation = header.generation;
            let screen = &self.screen;
            // The copy of the header is what counts: its rows lie within the region. A picture that is drawn over while it is
            // copied has another number then, and is looked at again.
            let changed = self.picture.look(header.width, header.height, |row, into| {
                screen.read(header.row(row) as usize, into);
            });
            self.asked = false;
            self.period = if changed { PERIOD } else { (2 * self.period).min(PERIOD_MAX) };
        }
        if now >= self.asked_at + self.period {
            self.wanted.signal(1)?;
            (self.asked, self.asked_at) = (true, now);
        }
        Ok(())
    }

    fn header(&self) -> Option<Scanout> {
        let mut bytes = [0; SCANOUT_HEADER_BYTES];
        self.screen.read(0, &mut bytes);
        fence(Ordering::SeqCst);
        Scanout::from_bytes(&bytes).ok().filter(|header| header.generation > 0)
    }

    /// Shows a viewer what it has not seen, as far as it takes it, and sends away who takes too long.
    fn serve(&mut self, at: usize, now: Duration) {
        let seat = &mut self.seats[at];
        for _ in 0..SHOWN_MAX {
            let Some(connection) = &seat.connection else { return };
            if seat.refused.is_none() {
                seat.viewer.show(&self.picture);
            }
            let output = seat.viewer.output();
            if output.is_empty() {
                seat.taken = now;
                if seat.refused.is_some() {
                    seat.leave(&mut self.hands);
                }
                break;
            }
            match write(connection, output) {
                Ok(count) => {
                    seat.viewer.sent(count);
                    seat.taken = now;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(_) => {
                    seat.leave(&mut self.hands);
                    return;
                }
            }
        }
        if seat.gone_at().is_some_and(|gone| gone <= now) {
            seat.leave(&mut self.hands);
        }
    }
}

impl Seat {
    /// When it is gone, if nothing happens.
    fn gone_at(&self) -> Option<Duration> {
        if let Some(since) = self.refused {
            return Some(since + LAST_WORDS);
        }
        if !self.viewer.is_in() {
            return Some(self.since + LET_IN);
        }
        (!self.viewer.output().is_empty()).then(|| self.taken + STALLED)
    }

    fn leave(&mut self, hands: &mut Hands) {
        self.viewer.leave(hands);
        // Not by its drop, which in a program for tests asks before whether it is open.
        let _ = self.connection.take().map(close);
    }
}

/// What is slept on.
enum Source {
    Listener(usize),
    Seat(usize),
}

/// Where something happened.
#[derive(Default)]
struct Happened {
    listeners: [bool; LISTENERS_MAX],
    seats: [bool; VIEWERS_MAX as usize],
}

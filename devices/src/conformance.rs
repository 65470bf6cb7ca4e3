//! What every device model must do, tried with random accesses.
//!
//! A device's test module describes the [`World`] around its device and says `conforms!(ThatWorld)`; each rule becomes a
//! test of its own there. [`Bench`] drives one device by hand, in the order in which a host does.

use crate::catalogue;
use device::manifest::{
    LINES_MAX, LIST_MAX, Manifest, NAME_MAX, POSTED_MAX, Power, Register, RegisterKind, SHADOW_MAX, TEXT_MAX, Tolerance,
};
use device::{Access, Model, NoRegister, Options, Outputs, Powers, Registration, STRING_MAX, Scan};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::IntoBytes;

/// What a device's powers lead to.
pub(crate) trait World: Sized {
    /// Catalogue name of the device.
    const NAME: &'static str;
    /// Random accesses of each test.
    const STEPS: usize = 200_000;

    /// The same world each time.
    fn new() -> Self;

    /// The device's options.
    fn options(&self) -> Options {
        Options::default()
    }

    /// What the device is granted. Called again for each incarnation, and leads to the same outside.
    fn powers(&self) -> Powers;

    /// Something happens outside.
    fn stir(&mut self, _: &mut Random) {}

    /// What came out that must come out exactly once.
    fn seen(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Where the guest strikes next.
    fn strike(&mut self, random: &mut Random, manifest: &Manifest) -> Strike {
        let range = random.below(manifest.ranges.len() as u64) as u8;
        let length = manifest.ranges[usize::from(range)].length;
        let widths = [1, 1, 1, 2, 4, 8].into_iter().filter(|width| u64::from(*width) <= length).collect::<Vec<u8>>();
        let width = widths[random.below(widths.len() as u64) as usize];
        let offset = random.below(length - u64::from(width) + 1);
        Strike { range, offset, width, value: random.value(), write: random.one_in(2) }
    }
}

/// A guest's load or store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    pub(crate) range: u8,
    pub(crate) offset: u64,
    pub(crate) width: u8,
    pub(crate) value: u64,
    pub(crate) write: bool,
}

impl Strike {
    fn at(&self, now: u64) -> Access {
        Access { range: self.range, offset: self.offset, width: self.width, now }
    }
}

/// The tests that every device has.
macro_rules! conforms {
    ($world:ty) => {
        mod conforms {
            use super::*;
            use crate::conformance;

            #[test]
            fn its_manifest_is_sound() {
                conformance::manifest_is_sound::<$world>();
            }
            #[test]
            fn no_access_panics_and_every_state_passes_its_check() {
                conformance::random_accesses::<$world>();
            }
            #[test]
            fn shadows_are_true_and_posted_writes_change_no_level() {
                conformance::shortcuts_are_true::<$world>();
            }
            #[test]
            fn joined_loads_are_single_loads_and_lower_no_line() {
                conformance::strings_are_loads::<$world>();
            }
            #[test]
            fn a_restart_at_every_step_changes_no_answer() {
                conformance::restarts_are_not_noticed::<$world>();
            }
            #[test]
            fn state_from_a_hostile_process_is_refused_or_harmless() {
                conformance::hostile_state_is_harmless::<$world>();
            }
        }
    };
}

pub(crate) use conforms;

/// A small generator of random numbers (SplitMix64), the same on each run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// A value to write: often small, often with few bits set.
    pub(crate) fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(256),
            1 => 1 << self.below(64),
            2 => self.next() & self.next() & self.next(),
            3 => u64::MAX,
            4 => 0,
            _ => self.next(),
        }
    }
}

/// Switches or vectors that count.
pub(crate) struct Bells(Vec<Arc<AtomicU64>>);

impl Bells {
    pub(crate) fn new(count: usize) -> Bells {
        Bells((0..count).map(|_| Arc::new(AtomicU64::new(0))).collect())
    }

    /// Granted as the switches of the first wishes.
    pub(crate) fn powers(&self) -> Powers {
        let mut powers = Powers::default();
        for (wish, bell) in (0..).zip(&self.0) {
            powers.switches.push((wish, Box::new(bell.clone())));
        }
        powers
    }

    /// The sum of what bell `index` was rung with.
    pub(crate) fn rung(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::SeqCst)
    }
}

/// One device in its world, driven as a host drives it: look at rings, operate, commit, settle.
pub(crate) struct Bench<W> {
    pub(crate) world: W,
    /// Guest clock in nanoseconds.
    pub(crate) now: u64,
    registration: Registration,
    manifest: Manifest,
    model: Box<dyn Model>,
    /// 64-bit words, since a state region is aligned to them.
    state: Vec<u64>,
}

/// More looks than any device's bounded work needs for all that a test gives it.
const LOOKS_MAX: usize = 1 << 16;

/// What an operation told its caller.
type Answer = Option<Result<u64, NoRegister>>;

/// Loads that one string instruction makes.
#[derive(Debug, Clone, Copy)]
struct Joined {
    range: u8,
    offset: u64,
    width: u8,
    bytes: usize,
}

/// What may happen to a device.
#[derive(Debug, Clone, Copy)]
enum Step {
    Strike(Strike),
    Load(Joined),
    Alarm,
    Button,
    Refresh,
    Reset,
    Nothing,
}

impl<W: World> Bench<W> {
    pub(crate) fn new() -> Bench<W> {
        Bench::with(W::new())
    }

    pub(crate) fn with(world: W) -> Bench<W> {
        let registration = *catalogue().iter().find(|entry| entry.name == W::NAME).expect("a catalogue name");
        let manifest = (registration.manifest)(&world.options()).expect("options that are possible");
        let mut model = attach(&registration, &world);
        let mut state = vec![0; manifest.state_bytes as usize / size_of::<u64>()];
        model.power_on(state.as_mut_bytes());
        let mut bench = Bench { world, now: 0, registration, manifest, model, state };
        bench.settle();
        bench
    }

    pub(crate) fn read(&mut self, range: u8, offset: u64, width: u8) -> Result<u64, NoRegister> {
        self.run(Step::Strike(Strike { range, offset, width, value: 0, write: false })).expect("an access is answered")
    }

    pub(crate) fn write(&mut self, range: u8, offset: u64, width: u8, value: u64) -> Result<(), NoRegister> {
        let strike = Strike { range, offset, width, value, write: true };
        self.run(Step::Strike(strike)).expect("an access is answered").map(drop)
    }

    /// Loads that one string instruction makes.
    pub(crate) fn load_string(
        &mut self,
        range: u8,
        offset: u64,
        width: u8,
        bytes: usize,
    ) -> Result<Vec<u8>, NoRegister> {
        let loaded = self.load_joined(Joined { range, offset, width, bytes });
        self.settle();
        loaded
    }

    /// Looks at rings and queues until nothing is left to do.
    pub(crate) fn scan(&mut self) {
        self.run(Step::Nothing);
    }

    pub(crate) fn button(&mut self) {
        self.run(Step::Button);
    }

    pub(crate) fn refresh(&mut self) {
        self.run(Step::Refresh);
    }

    pub(crate) fn reset(&mut self) {
        self.run(Step::Reset);
    }

    /// Goes on to `now`, with each alarm on the way at its time.
    pub(crate) fn pass_until(&mut self, now: u64) {
        while let Some(deadline) = self.outputs().deadline.filter(|deadline| *deadline <= now) {
            self.now = self.now.max(deadline);
            self.run(Step::Alarm);
            let next = self.outputs().deadline;
            assert!(next.is_none_or(|next| next > self.now), "{}: an alarm without end", W::NAME);
        }
        self.now = now;
    }

    pub(crate) fn outputs(&self) -> Outputs {
        self.model.outputs(self.state.as_bytes())
    }

    /// The process dies, and a new one finds the state.
    pub(crate) fn restart(&mut self) {
        self.model = attach(&self.registration, &self.world);
        assert!(self.model.check(self.state.as_bytes()), "{}: a committed state must pass the check", W::NAME);
        self.settle();
    }

    /// The process is exchanged with a medium: a new one is told, with what the world has now. False: the guest holds the old one,
    /// and all is as before.
    pub(crate) fn exchange(&mut self, bay: u8) -> bool {
        self.manifest = (self.registration.manifest)(&self.world.options()).expect("options that are possible");
        self.model = attach(&self.registration, &self.world);
        if self.model.holds(self.state.as_bytes(), bay) {
            return false;
        }
        self.model.exchanged(self.state.as_mut_bytes(), bay);
        self.restart();
        true
    }

    fn settle(&mut self) {
        self.model.settle(self.state.as_bytes());
    }

    fn run(&mut self, step: Step) -> Answer {
        self.look();
        let answer = self.attempt(step);
        self.settle();
        self.look();
        answer
    }

    fn look(&mut self) {
        for _ in 0..LOOKS_MAX {
            let before = self.state.clone();
            let pending = self.model.pending(self.state.as_bytes());
            match self.model.scan(self.state.as_mut_bytes(), self.now) {
                Scan::Idle => return assert_eq!(self.state, before, "{}: an idle scan changed the state", W::NAME),
                Scan::Changed | Scan::More => assert!(pending, "{}: a scan found work that was not pending", W::NAME),
            }
            self.settle();
        }
        panic!("{}: a scan that never ends", W::NAME);
    }

    /// An operation that is not committed: nothing outside may notice it.
    fn attempt(&mut self, step: Step) -> Answer {
        let now = self.now;
        let state = self.state.as_mut_bytes();
        match step {
            Step::Strike(strike) if strike.write => {
                let masked = strike.value & mask(strike.width);
                return Some(self.model.write(state, strike.at(now), masked).map(|()| 0));
            }
            Step::Strike(strike) => {
                return Some(self.model.read(state, strike.at(now)).map(|value| value & mask(strike.width)));
            }
            Step::Load(joined) => {
                let loaded = self.load_joined(joined);
                // A checksum for what was loaded.
                let sum =
                    |loaded: Vec<u8>| loaded.iter().fold(0, |sum: u64, byte| sum.rotate_left(7) ^ u64::from(*byte));
                return Some(loaded.map(sum));
            }
            Step::Alarm => self.model.alarm(state, now),
            Step::Button => self.model.button(state, now),
            Step::Refresh => self.model.refresh(state, now),
            Step::Reset => self.model.power_on(state),
            Step::Nothing => {}
        }
        None
    }

    /// Has the device answer joined loads.
    fn load_joined(&mut self, Joined { range, offset, width, bytes }: Joined) -> Result<Vec<u8>, NoRegister> {
        let mut into = vec![0; bytes];
        let at = Access { range, offset, width, now: self.now };
        let done = self.model.read_string(self.state.as_mut_bytes(), at, &mut into)?;
        let whole = done > 0 && done <= bytes && done % usize::from(width) == 0;
        assert!(whole, "{}: {done} bytes of {bytes} were loaded", W::NAME);
        into.truncate(done);
        Ok(into)
    }

    /// What is said to be ahead of such loads is what the next ones give, and these change no output.
    fn check_ahead(&mut self, joined: Joined) -> bool {
        let Joined { range, offset, width, .. } = joined;
        let at = Access { range, offset, width, now: self.now };
        let Some(ahead) = self.model.ahead(self.state.as_bytes(), at).filter(|ahead| ahead.bytes > 0) else {
            return false;
        };
        let mut said = vec![0; ahead.bytes as usize];
        let bulk = self.world.powers().bulk().unwrap();
        bulk.slice(ahead.offset as usize, said.len()).unwrap().copy_to(&mut said);
        let before = self.outputs();
        let mut loaded = Vec::new();
        while loaded.len() < said.len() {
            let bytes = STRING_MAX.min(said.len() - loaded.len());
            loaded.extend(self.load_joined(Joined { bytes, ..joined }).unwrap());
            assert_eq!(self.outputs(), before, "{}: what was ahead changes outputs", W::NAME);
        }
        assert!(loaded == said, "{}: other bytes were ahead", W::NAME);
        true
    }

    /// As many loads as one instruction may make of some register that joins them, if there is one.
    fn choose_joined(&self, random: &mut Random) -> Option<Joined> {
        let registers = self.manifest.registers.iter();
        let joined = registers.filter(|register| matches!(register.kind, RegisterKind::Strings)).collect::<Vec<_>>();
        let register = joined.get(random.below(joined.len().max(1) as u64) as usize)?;
        let elements = STRING_MAX / usize::from(register.width);
        let count = if random.one_in(2) { elements } else { 1 + random.below(elements as u64) as usize };
        let bytes = count * usize::from(register.width);
        Some(Joined { range: register.range, offset: register.offset, width: register.width, bytes })
    }

    /// The next thing to happen, and time goes on.
    fn choose(&mut self, random: &mut Random) -> Step {
        if random.one_in(8) {
            self.world.stir(random);
        }
        self.now = self.now.saturating_add(match random.below(20) {
            0..8 => 0,
            8..14 => random.below(10_000),
            14..18 => random.below(10_000_000),
            18 => random.below(3_000_000_000),
            _ => random.below(100_000_000_000_000),
        });
        match self.outputs().deadline {
            // Alarms are sometimes late, but they come; and now and then nothing happens until the next.
            Some(deadline) if deadline <= self.now && random.one_in(2) => return Step::Alarm,
            Some(deadline) if random.one_in(8) => {
                self.now = self.now.max(deadline);
                return Step::Alarm;
            }
            _ => {}
        }
        match random.below(2000) {
            0 => Step::Reset,
            1 => Step::Button,
            2 => Step::Refresh,
            3..100 => Step::Nothing,
            100..300 => match self.choose_joined(random) {
                Some(joined) => Step::Load(joined),
                None => Step::Strike(self.world.strike(random, &self.manifest)),
            },
            _ => Step::Strike(self.world.strike(random, &self.manifest)),
        }
    }

    /// Does something with the state that is forgotten afterwards.
    fn aside<T>(&mut self, act: impl FnOnce(&mut Bench<W>) -> T) -> T {
        let kept = self.state.clone();
        let result = act(self);
        self.state = kept;
        result
    }

    fn registers(&self) -> Vec<Register> {
        self.manifest.registers.clone()
    }

    fn look_at(&mut self, register: &Register) -> Answer {
        let strike =
            Strike { range: register.range, offset: register.offset, width: register.width, value: 0, write: false };
        self.attempt(Step::Strike(strike))
    }

    /// Each valid shadow is what a read would give, has no side effect, and stays so for as many posts as it tolerates, of all kinds
    /// between one another.
    fn check_shadows(&mut self, random: &mut Random) {
        for register in self.registers() {
            let RegisterKind::Shadow { slot, tolerates } = &register.kind else { continue };
            let outputs = self.outputs();
            let Some(value) = outputs.shadow[usize::from(*slot)] else { continue };
            let expected = Some(Ok(value & mask(register.width)));
            let committed = self.state.clone();
            self.aside(|bench| {
                assert_eq!(bench.look_at(&register), expected, "{}: a shadow is not true", W::NAME);
                assert_eq!(bench.state, committed, "{}: a shadowed read has a side effect", W::NAME);
            });
            let mut tolerated: Vec<Tolerance> =
                tolerates.iter().filter(|tolerance| outputs.postable & 1 << tolerance.posted != 0).copied().collect();
            self.aside(|bench| {
                for _ in 0..UNDER_WAY {
                    tolerated.retain(|tolerance| tolerance.count > 0);
                    let next = random.below(tolerated.len().max(1) as u64) as usize;
                    let Some(tolerance) = tolerated.get_mut(next) else { break };
                    tolerance.count -= 1;
                    bench.post(tolerance.posted, random);
                }
                assert_eq!(bench.look_at(&register), expected, "{}: posts made a shadow untrue", W::NAME);
            });
        }
    }

    /// No posted write changes a level, however many are under way; one that is only remembered sets no alarm.
    fn check_posts(&mut self, random: &mut Random) {
        let before = self.outputs();
        for kind in (0..POSTED_MAX as u8).filter(|kind| before.postable & 1 << kind != 0) {
            self.aside(|bench| {
                for _ in 0..UNDER_WAY {
                    bench.post(kind, random);
                    let after = bench.outputs();
                    assert_eq!(after.levels, before.levels, "{}: a posted write changed a level", W::NAME);
                    let sets_alarm = after.deadline != before.deadline && bench.manifest.remembered & 1 << kind != 0;
                    assert!(!sets_alarm, "{}: a write that is only remembered changed the deadline", W::NAME);
                }
            });
        }
    }

    fn post(&mut self, kind: u8, random: &mut Random) {
        for register in self.registers() {
            let Register { range, mut offset, width, .. } = register;
            let mut value = random.value();
            match register.kind {
                RegisterKind::Posted(posted) if posted == kind => {}
                RegisterKind::PostedValue { posted, mask, value: some } if posted == kind => {
                    value = value & !mask | some
                }
                RegisterKind::Area { posted, length } if posted == kind => {
                    offset += random.below(length - u64::from(width) + 1);
                }
                _ => continue,
            }
            self.attempt(Step::Strike(Strike { range, offset, width, value, write: true }));
        }
    }

    /// Outputs are a function of the state, and say nothing that was not declared.
    fn check_outputs(&self) {
        let outputs = self.outputs();
        assert_eq!(outputs, self.outputs(), "{}: outputs that depend on more than the state", W::NAME);
        let lines = self.manifest.lines.len();
        assert!(u64::from(outputs.levels) < 1 << lines, "{}: a level of no line", W::NAME);
        let (mut posted, mut shadows) = (0u32, [false; SHADOW_MAX]);
        for register in &self.manifest.registers {
            match register.kind {
                RegisterKind::Posted(kind)
                | RegisterKind::PostedValue { posted: kind, .. }
                | RegisterKind::Area { posted: kind, .. } => posted |= 1 << kind,
                RegisterKind::Shadow { slot, .. } => shadows[usize::from(slot)] = true,
                RegisterKind::Strings => {}
            }
        }
        let kinds = outputs.postable | self.manifest.remembered;
        assert_eq!(kinds & !posted, 0, "{}: an undeclared posted kind", W::NAME);
        for (value, declared) in outputs.shadow.iter().zip(shadows) {
            assert!(declared || value.is_none(), "{}: an undeclared shadow", W::NAME);
        }
    }
}

/// Posted writes that may be under way: more than a lane has entries.
const UNDER_WAY: usize = 63;

fn attach<W: World>(registration: &Registration, world: &W) -> Box<dyn Model> {
    match (registration.attach)(&world.options(), &mut world.powers()) {
        Ok(model) => model,
        Err(error) => panic!("{}: {error}", W::NAME),
    }
}

fn mask(width: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(width))
}

pub(crate) fn manifest_is_sound<W: World>() {
    let bench = Bench::<W>::new();
    let manifest = &bench.manifest;
    let lists = [
        manifest.ranges.len(),
        manifest.registers.len(),
        manifest.doorbells.len(),
        manifest.wishes.len(),
        manifest.with.len(),
        manifest.options.len(),
    ];
    assert!(lists.into_iter().all(|length| length <= LIST_MAX) && manifest.lines.len() <= LINES_MAX);
    assert!(manifest.name == W::NAME && manifest.name.len() <= NAME_MAX);
    assert!((1..=TEXT_MAX).contains(&manifest.summary.len()));
    assert!(!manifest.ranges.is_empty() && manifest.ranges.iter().all(|range| range.length > 0));
    assert_eq!(manifest.state_bytes % 8, 0, "copies of the state lie one after the other, aligned to 8");
    let inside = |range: u8, offset: u64, width: u8| {
        manifest.ranges.get(usize::from(range)).is_some_and(|range| offset + u64::from(width.max(1)) <= range.length)
    };
    for register in &manifest.registers {
        assert!(inside(register.range, register.offset, register.width) && [1, 2, 4, 8].contains(&register.width));
        match &register.kind {
            RegisterKind::Posted(kind) => assert!(usize::from(*kind) < POSTED_MAX),
            RegisterKind::PostedValue { posted, mask, value } => {
                assert!(usize::from(*posted) < POSTED_MAX && value & !mask == 0);
            }
            RegisterKind::Area { posted, length } => {
                assert!(usize::from(*posted) < POSTED_MAX && *length >= u64::from(register.width));
                let range = &manifest.ranges[usize::from(register.range)];
                assert!(register.offset + length <= range.length);
            }
            RegisterKind::Shadow { slot, .. } => assert!(usize::from(*slot) < SHADOW_MAX),
            RegisterKind::Strings => assert!(register.width <= 4, "no port is wider"),
        }
    }
    let is_waited_for = |kind: &RegisterKind| matches!(kind, RegisterKind::Shadow { .. } | RegisterKind::Strings);
    let posts = manifest.registers.iter().any(|register| !is_waited_for(&register.kind));
    assert!(manifest.doorbells.is_empty() || !posts, "a doorbell could be answered before what was posted ahead of it");
    for doorbell in &manifest.doorbells {
        assert!(inside(doorbell.range, doorbell.offset, doorbell.width));
    }
    for wish in &manifest.wishes {
        assert!((1..=TEXT_MAX).contains(&wish.because.len()), "each power has its reason");
        assert_eq!(wish.switch.is_some(), wish.power == Power::Switch);
    }
    let defaults = manifest.options.iter().map(|spec| (spec.name.as_str(), spec.default.as_str()));
    if bench.world.options() == Options::default() {
        assert_eq!(
            (bench.registration.manifest)(&Options::new(defaults)).as_ref(),
            Ok(manifest),
            "its defaults are so"
        );
    }
    let unknown = Options::new([("no such option", "1")]);
    assert!((bench.registration.manifest)(&unknown).is_err());
}

pub(crate) fn random_accesses<W: World>() {
    let mut bench = Bench::<W>::new();
    let mut random = Random::new(1);
    assert_eq!(bench.outputs().levels, 0, "{}: a line is up after power on", W::NAME);
    for _ in 0..W::STEPS {
        let step = bench.choose(&mut random);
        bench.run(step);
        assert!(bench.model.check(bench.state.as_bytes()), "{}: {step:?} left a state that fails its check", W::NAME);
        bench.check_outputs();
        if matches!(step, Step::Alarm) {
            let deadline = bench.outputs().deadline;
            assert!(deadline.is_none_or(|deadline| deadline > bench.now), "{}: an alarm without end", W::NAME);
        }
        if matches!(step, Step::Reset) {
            // What comes from outside may raise one again at once.
            bench.aside(|bench| {
                bench.attempt(Step::Reset);
                assert_eq!(bench.outputs().levels, 0, "{}: a line is up after reset", W::NAME);
            });
        }
    }
}

pub(crate) fn shortcuts_are_true<W: World>() {
    if Bench::<W>::new().manifest.registers.is_empty() {
        return;
    }
    let mut bench = Bench::<W>::new();
    let mut random = Random::new(2);
    // Each step is followed by up to a hundred more, aside.
    for _ in 0..W::STEPS / 10 {
        let step = bench.choose(&mut random);
        bench.run(step);
        bench.check_shadows(&mut random);
        bench.check_posts(&mut random);
    }
}

pub(crate) fn strings_are_loads<W: World>() {
    let mut bench = Bench::<W>::new();
    let mut random = Random::new(5);
    let (mut tried, mut long, mut ahead) = (0, 0, 0);
    for _ in 0..W::STEPS {
        let step = bench.choose(&mut random);
        if let Step::Load(joined) = step {
            bench.look();
            let loaded = bench.aside(|bench| bench.load_joined(joined).map(|loaded| (loaded, bench.state.clone())));
            if loaded.is_ok() {
                ahead += usize::from(bench.aside(|bench| {
                    bench.load_joined(joined).unwrap();
                    bench.check_ahead(joined)
                }));
            }
            // The same by single loads, each of which is committed and finds the levels that it leaves.
            bench.aside(|bench| {
                let Joined { range, offset, width, .. } = joined;
                let strike = Step::Strike(Strike { range, offset, width, value: 0, write: false });
                let Ok((loaded, state)) = loaded else {
                    return assert_eq!(bench.attempt(strike), Some(Err(NoRegister)), "{}: {joined:?}", W::NAME);
                };
                for element in loaded.chunks(width.into()) {
                    let before = bench.outputs().levels;
                    let value = bench.attempt(strike).and_then(Result::ok).unwrap_or(u64::MAX) & mask(width);
                    assert_eq!(&value.to_le_bytes()[..element.len()], element, "{}: {joined:?}", W::NAME);
                    assert_eq!(before & !bench.outputs().levels, 0, "{}: {joined:?} lowers a line", W::NAME);
                }
                assert_eq!(bench.state, state, "{}: {joined:?} leaves another state", W::NAME);
                tried += 1;
                long += usize::from(loaded.len() > usize::from(width));
            });
        }
        bench.run(step);
    }
    let joins = bench.registers().iter().any(|register| matches!(register.kind, RegisterKind::Strings));
    assert!(!joins || tried > 0 && long > 0, "{}: {tried} were tried, {long} of them long", W::NAME);
    // Of those that join loads, all have said so far what is ahead.
    assert!(!joins || ahead > 0, "{}: nothing was ever ahead", W::NAME);
}

pub(crate) fn restarts_are_not_noticed<W: World>() {
    let (mut steady, mut dying) = (Bench::<W>::new(), Bench::<W>::new());
    let mut choices = [Random::new(3), Random::new(3)];
    for number in 0..W::STEPS {
        let step = steady.choose(&mut choices[0]);
        dying.choose(&mut choices[1]);
        let expected = steady.run(step);

        // It dies with a look at the rings done and not committed; with the operation done and not committed; and once more
        // after the commit, before it is settled.
        dying.aside(|bench| bench.model.scan(bench.state.as_mut_bytes(), bench.now));
        dying.restart();
        dying.look();
        dying.aside(|bench| bench.attempt(step));
        dying.restart();
        let answer = dying.attempt(step);
        dying.restart();
        dying.look();

        assert_eq!(answer, expected, "{}: {step:?} is answered otherwise after a restart", W::NAME);
        assert_eq!(dying.state, steady.state, "{}: {step:?} leaves another state after a restart", W::NAME);
        assert_eq!(dying.outputs(), steady.outputs(), "{}: a new incarnation sees other outputs", W::NAME);
        // What came out grows; comparing all of it at each step would take for ever.
        if number % 4096 == 0 {
            assert_eq!(dying.world.seen(), steady.world.seen(), "{}: the outside noticed a restart", W::NAME);
        }
    }
    assert_eq!(dying.world.seen(), steady.world.seen(), "{}: the outside noticed a restart", W::NAME);
}

pub(crate) fn hostile_state_is_harmless<W: World>() {
    /// Accesses made over each state that passes the check.
    const ACCESSES: usize = 20;
    let mut bench = Bench::<W>::new();
    let mut random = Random::new(4);
    let mut passed = 0;
    for _ in 0..W::STEPS / ACCESSES {
        // An honest state, lightly or heavily damaged, at any time of the guest's clock.
        let mut honest = Bench::<W>::new();
        for _ in 0..random.below(8) {
            let step = honest.choose(&mut random);
            honest.run(step);
        }
        bench.state = honest.state;
        let bytes = bench.state.as_mut_bytes();
        for _ in 0..1 << random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = if random.one_in(2) { random.next() as u8 } else { random.below(4) as u8 };
        }
        bench.now = random.value();
        if random.one_in(4) {
            // It is told of an exchange before it checks.
            let bay = random.below(5) as u8;
            bench.model.holds(bench.state.as_bytes(), bay);
            bench.model.exchanged(bench.state.as_mut_bytes(), bay);
        }
        if !bench.model.check(bench.state.as_bytes()) {
            continue;
        }
        passed += 1;
        for _ in 0..ACCESSES {
            let step = bench.choose(&mut random);
            bench.run(step);
            assert!(bench.model.check(bench.state.as_bytes()), "{}: {step:?} spoilt a state", W::NAME);
            bench.check_outputs();
        }
    }
    assert!(passed > 0, "{}: no state passed, so nothing was tried", W::NAME);
}

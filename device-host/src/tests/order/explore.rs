//! Every schedule of a program: two vcpus on a real [`Lane`], a real engine behind it, and what comes from outside.
//!
//! Who has the lane can be interrupted wherever it looks at something that others change. What a host does up to a commit is
//! one move: of its looks ahead of the commit nobody sees when they were, but by how many posted writes it found, and both the
//! least and the most are tried. The lane's lock keeps a second vcpu out, so it is a move to take it.

use super::super::objects::Objects;
use super::device::{Broken, Device, FOLD, Outside, STATE_BYTES, TOLERATED, manifest};
use super::history::{Seen, Step, is_synchronous};
use crate::Engine;
use device::manifest::Manifest;
use imc::lane::{
    Carrier, HostLane, Lane, LaneError, Levels, PostError, Request, Rest, Retirement, SpinBudget, StateView,
    StateWriter, prepare_virtqueues,
};
use imc::{Mapping, Packets, Wake, pipe};
use schema::lane::{Access, Carrier as Kind, Operation};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What two vcpus do, and what happens meanwhile.
#[derive(Debug, Clone)]
pub struct Program {
    pub vcpus: [Vec<Step>; 2],
    /// Bytes that come from outside.
    pub bytes: u64,
    /// Whether the guest clock advances from 0 to [`LATER`].
    pub clock: bool,
}

/// Past each deadline that is armed at 0.
pub const LATER: u64 = 100;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A shadow is served without a look at what is outstanding.
    ForgetsOutstanding,
    /// What the device has told is not taken before it is used.
    ForgetsAnswers,
    /// A write is posted though the device said that it may not be.
    AlwaysPosts,
    /// One posted write too many is tolerated.
    ToleratesOneMore,
    /// A shadow is served though the device withdrew it.
    AlwaysServes,
    /// An access knows of no time that passed.
    ForgetsAlarm,
    /// An access ends before its levels are applied.
    ForgetsLevels,
    /// Whoever looks at levels sees them as they are, and nothing of what they were.
    ForgetsFalls,
    /// A device with posted writes has a doorbell, which its host may answer before what was posted ahead of it.
    PostsBesideDoorbell,
    /// A call does not wait for what was posted before it.
    Overtakes,
}

/// How the exploration of a program ended.
#[derive(Debug)]
pub struct Explored {
    pub schedules: u64,
    /// How many different things the vcpus saw.
    pub histories: u64,
    /// What no synchronous device would have shown.
    pub wrong: Option<Vec<Seen>>,
    /// Bit `n`: then line `n` is high, and the edge with which it rose was never given.
    pub lost_edges: u64,
}

/// Explores every schedule, until one is wrong.
///
/// A schedule is a list of choices. Each is played from the start, up to where the list ends; there the first choice is
/// taken, and is the next to be counted up. What has been reached before is not followed again: a state is all that
/// anybody may still act upon, together with what the vcpus saw.
pub fn explore(carrier: Kind, program: &Program, fault: Option<Fault>) -> Explored {
    let mut stage = Stage::over(carrier);
    let mut search = Search::default();
    let mut explored = Explored { schedules: 0, histories: 0, wrong: None, lost_edges: 0 };
    let mut judged = HashSet::new();
    loop {
        explored.schedules += 1;
        if let Some((steps, lost_edges)) = play(&mut stage, program, fault, &mut search) {
            let new = judged.insert(hash(&steps));
            if lost_edges != 0 || new && !is_synchronous(&steps) {
                (explored.wrong, explored.lost_edges) = (Some(steps), lost_edges);
            }
        }
        if explored.wrong.is_some() || !search.next() {
            explored.histories = judged.len() as u64;
            return explored;
        }
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Which choices were made, of how many.
#[derive(Default)]
struct Search {
    choices: Vec<(usize, usize)>,
    reached: HashSet<u64>,
}

impl Search {
    /// Goes to the next schedule. False: that was the last.
    fn next(&mut self) -> bool {
        while let Some((choice, of)) = self.choices.pop() {
            if choice + 1 < of {
                self.choices.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

/// Bytes at the start of a state region beyond which nothing lies: headers, and both copies of the state.
const USED_BYTES: usize = 1024;

/// What both ends hold; renewed for each schedule.
struct Stage {
    objects: Objects,
    /// The regions, to be emptied, the state's first.
    regions: [Arc<Mapping>; 3],
    committed: StateView,
}

impl Stage {
    fn over(carrier: Kind) -> Stage {
        let objects = Objects::over(carrier);
        let regions =
            [&objects.state, &objects.request, &objects.answer_region].map(|region| Arc::new(region.map().unwrap()));
        let committed = objects.view();
        Stage { objects, regions, committed }
    }

    fn renew(&mut self) {
        for region in &self.regions {
            // SAFETY: the mapping is all ours; nobody is at work now.
            unsafe { region.as_ptr().write_bytes(0, region.len()) };
        }
        match self.objects.carrier {
            Kind::Socket => self.objects.packets = Packets::pair().unwrap(),
            Kind::Pipe => (self.objects.asked, self.objects.answers) = (pipe().unwrap(), pipe().unwrap()),
            Kind::Virtio => prepare_virtqueues(&self.objects.request).unwrap(),
            Kind::Memory | Kind::InProcess => {}
        }
        self.objects.wake.drain();
    }

    fn host(&self, outside: &Arc<Outside>, broken: Broken, manifest: &Manifest) -> Host {
        let objects = &self.objects;
        let (request, reply) = (|| objects.request.read_only().unwrap().map().unwrap(), || clone(&objects.reply));
        let irq = Arc::new(clone(&objects.irq));
        let rest = Rest::new(clone(&objects.wake), irq.clone());
        let lane = match objects.carrier {
            Kind::Memory => HostLane::memory(request(), reply(), 0),
            Kind::Socket => HostLane::socket(objects.packets.1.try_clone().unwrap(), rest.clone(), 0),
            Kind::Pipe => {
                let (asked, answers) = (&objects.asked.0, &objects.answers.1);
                HostLane::pipe(asked.try_clone().unwrap(), answers.try_clone().unwrap(), rest.clone(), 0)
            }
            Kind::Virtio => {
                let answers = objects.answer_region.map().unwrap();
                HostLane::virtio(request(), answers, reply(), rest.clone(), 0).unwrap()
            }
            Kind::InProcess => HostLane::in_process(),
        };
        let state = StateWriter::new(objects.state.map().unwrap(), STATE_BYTES, 0).unwrap();
        let model = Box::new(Device { outside: outside.clone(), broken });
        let mut engine = Engine::new(model, manifest, state, lane, irq, Arc::new(AtomicU64::new(0)));
        engine.start().unwrap();
        Host { engine, rest, wake: clone(&objects.wake), behind: None }
    }
}

fn clone(wake: &Wake) -> Wake {
    wake.try_clone().unwrap()
}

/// The far end, one operation at a time.
struct Host {
    engine: Engine,
    rest: Arc<Rest>,
    wake: Wake,
    behind: Option<Access>,
}

impl Host {
    /// Does the next operation, which there is; of posted writes that one alone, or all that there are.
    fn serve(&mut self, alone: bool) {
        let mut next = self.behind.take().or_else(|| self.engine.take().unwrap());
        if next.is_none() {
            // Where a look costs a call, it looks again only once it was rung.
            assert!(self.wake.wait(Duration::ZERO).unwrap(), "nobody rang");
            self.rest.sleep().unwrap();
            next = self.engine.take().unwrap();
        }
        let access = next.expect("what was issued is there");
        if access.operation == Operation::Post {
            self.engine.set_careful(u32::from(alone));
            self.behind = self.engine.serve_posted(access).unwrap();
        } else {
            self.engine.serve(&access).unwrap();
        }
    }
}

/// What can happen next, whoever does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Who has the lane goes on.
    GoOn,
    /// A vcpu begins its next step: it reads the clock.
    Begin(usize),
    /// It has the lane, and does what it began, up to where it applies the levels.
    Access(usize),
    /// It applies the levels, and its step is over.
    End(usize),
    /// It rings its doorbell, for which it needs no lane.
    Ring(usize),
    /// It looks what interrupts have told it, as little.
    Hear(usize),
    /// The hub tells the device that its alarm is due.
    Alarm,
    /// The host does the next operation; of several posted writes the first alone, or all.
    Serve { alone: bool },
    /// It looks at its queue and its bytes.
    Scan,
    /// A byte comes from outside.
    Byte,
    /// Time passes.
    Tick,
}

/// Where who has the lane can be interrupted: before and after each look at what the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Held {
    BeforeRefresh,
    BeforeOutstanding,
    AfterOutstanding,
    BeforePost,
    BeforeCall,
    Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Ready,
    Began(Seen),
    Accessed(Seen),
}

struct Vcpu {
    /// What it still has to do, the last first.
    steps: Vec<Step>,
    phase: Phase,
}

impl Vcpu {
    fn new(steps: &[Step]) -> Vcpu {
        Vcpu { steps: steps.iter().rev().copied().collect(), phase: Phase::Ready }
    }
}

/// Everything but the lane.
struct World {
    host: Host,
    kind: Kind,
    /// What the host has committed, and what the VMM knows of it.
    committed: StateView,
    view: StateView,
    state: Arc<Mapping>,
    outside: Arc<Outside>,
    /// The two, and one that at last reads what came of it all.
    vcpus: [Vcpu; 3],
    seen: Vec<Seen>,
    /// Bytes that come in all, and whether the clock advances.
    bytes: u64,
    ticks: bool,
    fault: Option<Fault>,
    clock: u64,
    /// As they were applied last.
    levels: Levels,
    held: Option<Held>,
    /// Which vcpu had it last; the hub has no number.
    holder: Option<usize>,
    issued: Vec<Operation>,
    /// How many of those the lane believes to be outstanding.
    believed: usize,
    /// What the VMM was told last, where it must be told.
    heard: u64,
    alarmed: bool,
    search: Search,
    depth: usize,
    /// It came to where another schedule had been.
    left: bool,
    /// Nobody moves any more.
    over: bool,
}

/// Plays the schedule of `search`, and on from its end. Says what the vcpus saw and which lines are high without an edge,
/// unless that was known before.
fn play(stage: &mut Stage, program: &Program, fault: Option<Fault>, search: &mut Search) -> Option<(Vec<Seen>, u64)> {
    stage.renew();
    let outside = Arc::new(Outside::default());
    let broken =
        Broken { always_postable: fault == Some(Fault::AlwaysPosts), always_valid: fault == Some(Fault::AlwaysServes) };
    let has_doorbell = program.vcpus.iter().any(|steps| steps.contains(&Step::Ring));
    let tolerated = TOLERATED + u16::from(fault == Some(Fault::ToleratesOneMore));
    let manifest = manifest(tolerated, !has_doorbell || fault == Some(Fault::PostsBesideDoorbell));
    // A waiter that may share a core lets the host go first, for which there is no need here.
    let (carrier, view) = stage.objects.carrier(SpinBudget { vmm: 1, host: 0 });
    let world = Arc::new(Mutex::new(World {
        host: stage.host(&outside, broken, &manifest),
        kind: stage.objects.carrier,
        committed: stage.committed.clone(),
        state: stage.regions[0].clone(),
        view: view.clone(),
        outside,
        vcpus: [Vcpu::new(&program.vcpus[0]), Vcpu::new(&program.vcpus[1]), Vcpu::new(&[Step::Read(FOLD)])],
        seen: Vec::new(),
        bytes: program.bytes,
        ticks: program.clock,
        fault,
        clock: 0,
        levels: Levels::default(),
        held: None,
        holder: None,
        issued: Vec::new(),
        believed: 0,
        heard: 0,
        alarmed: false,
        search: std::mem::take(search),
        depth: 0,
        left: false,
        over: false,
    }));
    let carrier = Interrupted { carrier, world: world.clone(), kept_back: None };
    let lane = Lane::new(Box::new(carrier), view, &manifest, Duration::ZERO);
    loop {
        let next = lock(&world).choose();
        match next {
            None => break,
            Some(Move::Access(vcpu)) => access(&lane, &world, vcpu),
            Some(Move::Alarm) => {
                let clock = {
                    let mut world = lock(&world);
                    world.holder = None;
                    world.clock
                };
                lane.notify(Operation::Alarm, clock);
            }
            Some(next) => lock(&world).make(next),
        }
    }
    *search = std::mem::take(&mut lock(&world).search);
    if lock(&world).left {
        return None;
    }
    // At last the hub looks.
    lock(&world).over = true;
    while !lane.refresh().unwrap() {}
    let mut world = lock(&world);
    world.look();
    Some((std::mem::take(&mut world.seen), world.lost_edges()))
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

/// What a vcpu does between its exit and the levels.
fn access(lane: &Lane, world: &Mutex<World>, vcpu: usize) {
    let (mut seen, fault) = {
        let mut world = lock(world);
        let Phase::Began(seen) = world.begun(vcpu) else { return };
        world.holder = Some(vcpu);
        (seen, world.fault)
    };
    let result = match seen.step {
        Step::Read(offset) => {
            let now = if fault == Some(Fault::ForgetsAlarm) { 0 } else { seen.began };
            lane.read(0, offset, 1, now)
        }
        Step::Write(offset, value) => lane.write(0, offset, 1, value, seen.began).map(|()| 0),
        Step::Ring | Step::Hear => Ok(0),
    };
    let mut world = lock(world);
    if !world.left {
        seen.value = result.unwrap();
        world.vcpus[vcpu].phase = Phase::Accessed(seen);
    }
}

impl World {
    /// The next move of the schedule; the first of all where it ends. `None`: it is over.
    fn choose(&mut self) -> Option<Move> {
        let moves = self.moves();
        if self.left || moves.is_empty() {
            assert!(self.left || self.held.is_none(), "nobody can go on");
            return None;
        }
        if self.depth == self.search.choices.len() {
            if !self.search.reached.insert(self.key()) {
                self.left = true;
                return None;
            }
            self.search.choices.push((0, moves.len()));
        }
        self.depth += 1;
        Some(moves[self.search.choices[self.depth - 1].0])
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let free = self.held.is_none();
        for (index, vcpu) in self.vcpus.iter().enumerate() {
            match (vcpu.phase, vcpu.steps.last()) {
                _ if index == 2 && self.vcpus[..2].iter().any(|vcpu| !vcpu.steps.is_empty()) => {}
                (_, None) => {}
                (Phase::Ready, Some(Step::Ring)) => moves.push(Move::Ring(index)),
                (Phase::Ready, Some(Step::Hear)) => moves.push(Move::Hear(index)),
                // Without a clock it makes no difference how long a vcpu waits for the lane.
                (Phase::Ready, _) if self.ticks => moves.push(Move::Begin(index)),
                (Phase::Ready | Phase::Began(_), _) if free => moves.push(Move::Access(index)),
                (Phase::Ready | Phase::Began(_), _) => {}
                (Phase::Accessed(_), _) => moves.push(Move::End(index)),
            }
        }
        if free && moves.is_empty() {
            return moves;
        }
        if self.held.is_some_and(|held| held != Held::Waiting) {
            moves.push(Move::GoOn);
        }
        let committed = self.committed.committed().sequence() as usize;
        if committed < self.issued.len() {
            moves.push(Move::Serve { alone: false });
            if self.issued[committed..].starts_with(&[Operation::Post, Operation::Post]) {
                moves.push(Move::Serve { alone: true });
            }
        }
        if self.host.engine.pending() && self.host.behind.is_none() {
            moves.push(Move::Scan);
        }
        if self.came() < self.bytes {
            moves.push(Move::Byte);
        }
        if self.ticks && self.clock == 0 {
            moves.push(Move::Tick);
        }
        if free && !self.alarmed && self.committed.deadline().is_some_and(|deadline| deadline <= self.clock) {
            moves.push(Move::Alarm);
        }
        moves
    }

    /// Makes a move that needs no lane.
    fn make(&mut self, next: Move) {
        match next {
            Move::Begin(vcpu) => _ = self.begun(vcpu),
            Move::End(vcpu) => {
                if self.fault != Some(Fault::ForgetsLevels) {
                    self.look();
                }
                let Phase::Accessed(seen) = self.vcpus[vcpu].phase else { return };
                self.end(vcpu, Seen { levels: self.levels.high, ..seen });
            }
            Move::Ring(vcpu) => {
                let Phase::Began(seen) = self.begun(vcpu) else { return };
                self.outside.rung.fetch_add(1, Ordering::Relaxed);
                self.end(vcpu, seen);
            }
            Move::Hear(vcpu) => {
                let Phase::Began(seen) = self.begun(vcpu) else { return };
                self.end(vcpu, Seen { value: self.outside.told.load(Ordering::Relaxed), ..seen });
            }
            Move::Serve { alone } => self.host.serve(alone),
            Move::Scan => _ = self.host.engine.scan().unwrap(),
            Move::Byte => _ = self.outside.came.fetch_add(1, Ordering::Relaxed),
            Move::Tick => self.clock = LATER,
            Move::GoOn | Move::Access(_) | Move::Alarm => unreachable!("who has the lane, or takes it, does that"),
        }
    }

    /// Applies the levels, and gives the edges of the lines that rose.
    fn look(&mut self) {
        let earlier = std::mem::replace(&mut self.levels, self.view.levels());
        let rose = match self.fault {
            Some(Fault::ForgetsFalls) => self.levels.high & !earlier.high,
            _ => self.levels.rose_since(earlier),
        };
        let high = self.outside.high.load(Ordering::Relaxed);
        self.outside.given.fetch_or(u64::from(rose) & high, Ordering::Relaxed);
    }

    /// Lines that are high, and of whose rising no edge has told.
    fn lost_edges(&self) -> u64 {
        self.outside.high.load(Ordering::Relaxed) & !self.outside.given.load(Ordering::Relaxed)
    }

    /// Its next step has begun.
    fn begun(&mut self, vcpu: usize) -> Phase {
        if self.vcpus[vcpu].phase == Phase::Ready {
            self.vcpus[vcpu].phase = Phase::Began(Seen {
                step: self.vcpus[vcpu].steps[self.vcpus[vcpu].steps.len() - 1],
                value: 0,
                levels: 0,
                after: (1 << self.seen.len()) - 1,
                began: self.clock,
                ended: 0,
                rings_before: self.rung(),
                came_before: self.came(),
                came: 0,
            });
        }
        self.vcpus[vcpu].phase
    }

    fn end(&mut self, vcpu: usize, seen: Seen) {
        self.seen.push(Seen { ended: self.clock, came: self.came(), ..seen });
        self.vcpus[vcpu].phase = Phase::Ready;
        self.vcpus[vcpu].steps.pop();
    }

    fn rung(&self) -> u64 {
        self.outside.rung.load(Ordering::Relaxed)
    }

    fn came(&self) -> u64 {
        self.outside.came.load(Ordering::Relaxed)
    }

    /// All on which depends what can follow, and what the vcpus saw.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.seen, self.vcpus.each_ref().map(|vcpu| vcpu.phase), self.clock).hash(&mut hasher);
        (self.levels.high, self.levels.falls, self.lost_edges()).hash(&mut hasher);
        (self.held, self.held.and(self.holder)).hash(&mut hasher);
        self.issued.iter().for_each(|operation| (*operation as u16).hash(&mut hasher));
        (self.believed, self.heard, self.alarmed, self.rung(), self.came()).hash(&mut hasher);
        self.host.behind.map(|access| access.sequence).hash(&mut hasher);
        self.state_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// All that the host has committed.
    fn state_hash(&self) -> u64 {
        let start = self.state.as_ptr().cast::<[u64; USED_BYTES / 8]>();
        // SAFETY: the start of a page that is aligned and all ours; nobody is at work now.
        hash(&unsafe { start.read_volatile() })
    }
}

/// The carrier, with everybody else's moves between its own.
struct Interrupted {
    carrier: Box<dyn Carrier>,
    world: Arc<Mutex<World>>,
    /// A posted write that a later call overtakes.
    kept_back: Option<Request>,
}

impl Interrupted {
    /// Whatever others do before the lane's holder goes on.
    fn at(&self, held: Held) -> Result<(), LaneError> {
        let mut world = lock(&self.world);
        if world.over {
            return Ok(());
        }
        world.held = Some(held);
        let gone = loop {
            match world.choose() {
                None => break Err(LaneError::Gone),
                Some(Move::GoOn) => break Ok(()),
                Some(next) => world.make(next),
            }
            if held == Held::Waiting {
                break Ok(());
            }
        };
        world.held = None;
        gone
    }

    /// All that the host had told by now was taken.
    fn heard(&self) {
        let mut world = lock(&self.world);
        if world.kind != Kind::Memory {
            world.heard = world.state_hash();
        }
    }

    fn issued(&self, operation: Operation) {
        let mut world = lock(&self.world);
        world.issued.push(operation);
        world.believed += 1;
        world.alarmed |= operation == Operation::Alarm;
    }
}

impl Carrier for Interrupted {
    fn make_room(&mut self, deadline: Duration) -> Result<(), LaneError> {
        self.carrier.make_room(deadline)
    }

    fn issued(&self) -> u32 {
        self.carrier.issued()
    }

    fn renew(&mut self) -> Result<(), LaneError> {
        self.carrier.renew()
    }

    fn call(&mut self, request: &Request, _: Duration) -> Result<u64, LaneError> {
        self.at(Held::BeforeCall)?;
        let mut reply = self.carrier.call(request, Duration::ZERO);
        self.issued(request.operation);
        if let Some(kept_back) = self.kept_back.take() {
            self.carrier.post(&kept_back).unwrap();
            self.issued(Operation::Post);
        }
        while reply == Err(LaneError::Late) {
            self.at(Held::Waiting)?;
            reply = self.carrier.resume(Duration::ZERO);
        }
        self.heard();
        lock(&self.world).believed = 0;
        reply
    }

    fn resume(&mut self, _: Duration) -> Result<u64, LaneError> {
        unreachable!("the lane has its calls end")
    }

    fn take_ahead(&mut self, place: u32, into: &mut [u8]) -> bool {
        self.carrier.take_ahead(place, into)
    }

    fn post(&mut self, request: &Request) -> Result<(), PostError> {
        self.at(Held::BeforePost)?;
        if lock(&self.world).fault == Some(Fault::Overtakes) && self.kept_back.is_none() {
            self.kept_back = Some(*request);
            return Ok(());
        }
        self.carrier.post(request)?;
        self.issued(request.operation);
        Ok(())
    }

    fn post_remembered(&mut self, request: &Request) -> Result<(), PostError> {
        self.post(request)
    }

    fn take_string(&mut self, into: &mut [u8]) -> Result<(), LaneError> {
        self.carrier.take_string(into)
    }

    fn refresh(&mut self) -> Result<bool, LaneError> {
        self.at(Held::BeforeRefresh)?;
        if lock(&self.world).fault == Some(Fault::ForgetsAnswers) {
            return Ok(true);
        }
        let all = self.carrier.refresh();
        self.heard();
        all
    }

    fn outstanding(&mut self) -> Result<usize, LaneError> {
        self.at(Held::BeforeOutstanding)?;
        let mut outstanding = self.carrier.outstanding()?;
        let mut world = lock(&self.world);
        if world.fault == Some(Fault::ForgetsOutstanding) {
            outstanding = 0;
        }
        world.believed = world.believed.min(outstanding);
        drop(world);
        self.at(Held::AfterOutstanding)?;
        Ok(outstanding)
    }

    fn retirement(&self) -> Arc<Retirement> {
        self.carrier.retirement()
    }

    fn kind(&self) -> schema::lane::Carrier {
        self.carrier.kind()
    }
}

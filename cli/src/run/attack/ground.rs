//! Where attempts are made: what there is to steal and to break, and an honest machine beside it all.

#![allow(unsafe_code)] // The victim maps memory at a place of its own choice.

use super::super::demo::script::Script;
use super::super::guests;
use crate::catalogue::BuiltIn;
use crate::machine::{STANDARD, label, planned};
use anyhow::{Context, Result, bail, ensure};
use sandbox::LayerName;
use schema::host::Level;
use schema::vmm::Drive;
use std::cell::RefCell;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use vmm::supervisor::{
    Backing, BootPlan, Cell, Console, ConsolePlan, Demands, Hostile, Isolate, Plan, PlannedDevice, Signals, Vm,
};

/// How the role of a victim begins.
pub const VICTIM: &str = "cofferdam: victim";
/// Where a victim has its page: the attacker is told, as if it had found out.
pub const VICTIM_PAGE: usize = 0x0c0f_fe00_0000;
/// A device of registers alone: its host has four calls.
pub const REGISTERS: &str = "debug-exit";
/// A device with a file.
pub const DISK: &str = "virtio-block";
/// Sectors of a disk.
pub const DISK_BYTES: usize = 4096;
/// Whatever an honest machine does, it has done within this, also on a loaded one.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a machine treats its hosts.
#[derive(Clone, Copy)]
pub struct Terms {
    /// Accesses are answered within this, or the device is given up.
    deadline: Duration,
    /// How often a host is started anew that died.
    restarts: u32,
}

impl Terms {
    /// Nobody honest is late, also on a loaded machine; who is given up stays so, and can be looked at.
    pub const LENIENT: Terms = Terms { deadline: Duration::from_secs(5), restarts: 0 };
    /// Where an attacker is to be given up for being late: the shorter, the sooner.
    pub const HASTY: Terms = Terms { deadline: Duration::from_secs(1), restarts: 0 };
    /// Who dies is started anew, as in every machine, but not as often.
    pub const FORGIVING: Terms = Terms { deadline: Duration::from_secs(5), restarts: 2 };
}

/// Where attempts are made.
pub struct Ground<'a> {
    /// The level of the whole sandbox.
    pub level: Level,
    /// Whether machines have a virtual processor, or a script that stands in for one.
    pub kvm: bool,
    /// Whether we are root.
    pub root: bool,
    /// Layers that are not to be had here.
    pub missing: Vec<LayerName>,
    /// What nobody else can know.
    pub secret: String,
    /// Signals to us.
    signals: &'a Signals,
    folder: tempfile::TempDir,
    bystander: RefCell<Option<Machine>>,
}

impl<'a> Ground<'a> {
    /// Everything is laid out, and an honest machine runs.
    pub fn lay_out(level: Level, kvm: bool, signals: &'a Signals) -> Result<Ground<'a>> {
        let folder = tempfile::Builder::new().prefix("cofferdam-attack-").tempdir().context("making a folder")?;
        let mut random = [0u8; 16];
        // SAFETY: writes at most so many bytes to a buffer of this stack.
        let got = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
        ensure!(got == random.len() as isize, "no random bytes are to be had");
        let secret = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut ground = Ground {
            level,
            kvm,
            root: nix::unistd::geteuid().is_root(),
            missing: Vec::new(),
            secret,
            signals,
            folder,
            bystander: RefCell::new(None),
        };
        std::fs::write(ground.secret_file(), &ground.secret)?;
        std::fs::create_dir(ground.path("inner"))?;
        ground.missing = ground.look_for_layers()?;
        *ground.bystander.borrow_mut() = Some(Machine::start(&ground, Vec::new())?);
        Ok(ground)
    }

    /// Which layers an honest host lacks here.
    fn look_for_layers(&self) -> Result<Vec<LayerName>> {
        let mut device = self.device("debug-exit", Vec::new());
        device.hostile = Some(Hostile { role: vmm::supervisor::HOST_ROLE.to_owned(), without: Vec::new() });
        Ok(Cell::start(&device, &BuiltIn, None)?.audit()?.missing)
    }

    /// Whether we have this capability, by its number.
    pub fn has_capability(&self, number: u32) -> bool {
        let own = status(std::process::id() as i32, "CapEff");
        u64::from_str_radix(&own, 16).is_ok_and(|set| set & 1 << number != 0)
    }

    /// A name in a folder of our own, which everybody may look into.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that no host was granted.
    pub fn secret_file(&self) -> PathBuf {
        self.path("secret")
    }

    /// A device as a plan has it.
    pub fn device(&self, name: &str, backing: Vec<Backing>) -> PlannedDevice {
        let mut device = planned(name, Vec::new(), backing);
        device.level = self.level_of(name);
        name.clone_into(&mut device.label);
        device
    }

    /// The level at which a host of this device is attacked. At level strict a disk's host has no file: what may be done with
    /// one is tried at the level where it has.
    pub fn level_of(&self, device: &str) -> Level {
        if device == DISK { Level::Seccomp } else { self.level }
    }

    /// Ends the run if a signal has come: attempts go on without looking.
    pub fn check_signals(&self) -> Result<()> {
        match self.signals.came() {
            Some(name) => bail!("ended by {name}"),
            None => Ok(()),
        }
    }

    /// Whether the honest machine is as well as before.
    pub fn bystander_is_well(&self) -> Result<()> {
        let mut bystander = self.bystander.borrow_mut();
        let bystander = bystander.as_mut().context("there is a bystander")?;
        bystander.is_well(self)?;
        bystander.others_are_clean("")
    }
}

/// A VM with honest devices, and perhaps others.
pub struct Machine {
    /// The VM.
    pub vm: Vm,
    console: Console,
    beats: u64,
}

impl Machine {
    /// Starts one with every standard device, a disk, and these.
    pub fn start(ground: &Ground<'_>, others: Vec<PlannedDevice>) -> Result<Machine> {
        Machine::start_with(ground, others, Terms::LENIENT)
    }

    /// The same on other terms.
    pub fn start_with(ground: &Ground<'_>, others: Vec<PlannedDevice>, terms: Terms) -> Result<Machine> {
        const DISK_BYTES: usize = 1 << 20;
        let mut devices: Vec<PlannedDevice> =
            STANDARD.iter().map(|device| planned(device, Vec::new(), Vec::new())).collect();
        devices.push(planned("virtio-block", Vec::new(), vec![Backing::Memory(vec![0x5a; DISK_BYTES])]));
        devices.iter_mut().for_each(|device| device.level = ground.level);
        for other in others {
            // In the place of a standard one, if it is one.
            match devices.iter_mut().find(|device| device.device == other.device) {
                Some(device) => *device = other,
                None => devices.push(other),
            }
        }
        label(&mut devices);
        let plan = Plan {
            name: format!("attack-{}", std::process::id()),
            cpus: 1,
            memory_bytes: vmm::supervisor::MEMORY_MIN,
            boot: if ground.kvm {
                BootPlan::Flat { image: guests::pulse(), base: guests::BASE }
            } else {
                BootPlan::None
            },
            devices,
            display: None,
            isolate: Isolate::Device,
            level: ground.level,
            demands: Demands::default(),
            deadline: terms.deadline,
            restarts: terms.restarts,
            kvm: ground.kvm,
            pins: None,
        };
        let console = Console::open(&ConsolePlan::Quiet)?;
        let vm = Vm::start_quietly(&plan, &BuiltIn, ground.signals)?;
        Ok(Machine { vm, console, beats: 0 })
    }

    /// Lets the supervisor do its work for a while.
    pub fn go_on(&mut self, ground: &Ground<'_>, time: Duration) -> Result<()> {
        match self.vm.run_until(&mut self.console, ground.signals, Instant::now() + time)? {
            None => Ok(()),
            Some(ended) => bail!("the machine ended: {ended:?}"),
        }
    }

    /// Lets its supervisor work until it has logged a line that says this; all lines up to then.
    pub fn hear(&mut self, ground: &Ground<'_>, words: &str) -> Result<Vec<String>> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.go_on(ground, Duration::from_millis(5))?;
            let (lines, _) = self.vm.log_since(0, usize::MAX);
            if lines.iter().any(|line| line.contains(words)) {
                return Ok(lines);
            }
            ensure!(Instant::now() < until, "nobody said `{words}`");
        }
    }

    /// A script that stands in for its guest.
    pub fn script<'b>(&'b mut self, ground: &'b Ground<'_>) -> Result<Script<'b>> {
        Script::new(&mut self.vm, &mut self.console, ground.signals)
    }

    /// One access of a processor's.
    pub fn access(&mut self, write: bool, port: u64, width: u8, value: u64) -> Result<u64> {
        self.vm.drive(Drive { write, port: true, address: port, width, value })
    }

    /// Whether its honest devices answer, and its guest goes on.
    pub fn is_well(&mut self, ground: &Ground<'_>) -> Result<()> {
        self.go_on(ground, Duration::ZERO)?;
        // The keyboard controller tests itself.
        self.access(true, 0x64, 1, 0xaa)?;
        ensure!(self.access(false, 0x60, 1, 0)? == 0x55, "the keyboard controller no longer answers");
        let (first, second) = (self.access(false, 0x608, 4, 0)?, self.access(false, 0x608, 4, 0)?);
        ensure!(first != second, "the timer stands still");
        if ground.kvm {
            // The device that the guest alone looks at.
            let heart = STANDARD.iter().position(|device| *device == "pvpanic").context("every machine has one")?;
            let until = Instant::now() + PATIENCE;
            let before = self.beats;
            while self.beats == before {
                ensure!(Instant::now() < until, "the guest no longer goes on");
                self.go_on(ground, Duration::from_millis(1))?;
                self.beats = self.vm.counters()?.devices.get(heart).map_or(0, |device| device.shadow + device.lane);
            }
        }
        Ok(())
    }

    /// A load that the guest makes, whatever comes of it.
    pub fn touch(&mut self, port: u64, width: u8) -> Result<u64> {
        self.access(false, port, width, 0)
    }

    /// What its supervisor shows of a host.
    pub fn state_of(&mut self, host: &str) -> String {
        let report = self.vm.report(false);
        let row = report.hosts.into_iter().find(|row| row.name == host);
        row.map_or_else(|| "not there".to_owned(), |row| row.state)
    }

    /// Whether every host but this one runs and is what its recipe says.
    pub fn others_are_clean(&mut self, but: &str) -> Result<()> {
        for row in self.vm.report(true).hosts.into_iter().filter(|row| row.name != but) {
            ensure!(row.state == "running", "{} is {}", row.name, row.state);
            ensure!(row.differences.is_empty(), "{}: {}", row.name, row.differences.join("; "));
        }
        Ok(())
    }
}

/// A process of ours that stands in for whatever else the user runs: the attacker may find it, and must not reach it.
pub struct Victim(Child);

impl Victim {
    /// Starts one whose memory holds the secret.
    pub fn start(ground: &Ground<'_>) -> Result<Victim> {
        let mut command = Command::new("/proc/self/exe");
        let child = command.arg0(format!("{VICTIM}\t{}", ground.secret)).env_clear().spawn()?;
        let victim = Victim(child);
        let until = Instant::now() + PATIENCE;
        while victim.page().as_deref() != Some(ground.secret.as_bytes()) {
            ensure!(Instant::now() < until, "a process of ours does not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(victim)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What stands in its page.
    pub fn page(&self) -> Option<Vec<u8>> {
        page_of(self.pid())
    }

    /// The signal that ended it, if one did.
    pub fn signal(&mut self) -> Result<Option<i32>> {
        Ok(self.0.try_wait()?.and_then(|status| status.signal()))
    }

    /// A line of its `/proc` status.
    pub fn status(&self, field: &str) -> String {
        status(self.pid() as i32, field)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What stands in the page of a process where victims have theirs.
pub fn page_of(pid: u32) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; 32];
    memory.read_exact_at(&mut bytes, VICTIM_PAGE as u64).ok()?;
    Some(bytes)
}

/// A line of a process's `/proc` status.
pub fn status(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Makes a victim's page in this process.
pub fn make_page(content: &[u8]) {
    // SAFETY: a new page at an address where nothing is; what is copied fits it.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(std::ptr::without_provenance_mut(VICTIM_PAGE), 4096, protection, flags, -1, 0);
        if page != libc::MAP_FAILED {
            std::ptr::copy_nonoverlapping(content.as_ptr(), page.cast(), content.len().min(4096));
        }
    }
}

/// A victim's process.
pub fn be_victim(role: &str) -> ! {
    let secret = role.split('\t').nth(1).unwrap_or_default().as_bytes();
    // SAFETY: prctl takes no memory here.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // Where the system asks for it, whoever wants may trace: that it may not is for the sandbox to see to.
        libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY);
    }
    make_page(secret);
    loop {
        std::thread::park();
    }
}

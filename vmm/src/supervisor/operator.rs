//! The operator's side: a socket per VM, and the questions that may be asked there.

use super::console::Console;
use super::runtime::{self, Entry};
use super::screen::{Frame, Screen};
use super::vm::{Medium, Vm};
use anyhow::{Context, Result, anyhow};
use imc::{CallError, Capability, Channel, Descriptors, Packet, ReadOnly, Region};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};
use schema::control::{
    CONSOLE_MAX, Command, Console as Type, ConsoleOutput, Exchange, HostStatus, INPUTS_MAX, LINES_MAX, LogLines, Logs,
    Order, Picture, Press, Screenshot, Status, StatusReport,
};
use schema::display::Input;
use schema::host::Empty;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// Operators at one time; each is a command at a person's terminal.
const OPERATORS_MAX: usize = 8;
/// Hosts in one report: a message has 16 KiB, a host's row well under 2.
const HOSTS_PER_REPORT: usize = 4;
/// A supervisor answers an operator within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket of one VM and who is connected to it.
pub struct Operators {
    entry: Entry,
    connected: Vec<Operator>,
}

struct Operator {
    channel: Channel,
    /// The console byte that it is shown next.
    console_at: Option<u64>,
    /// A report being read out, so that its parts agree.
    report: Option<StatusReport>,
}

impl Operators {
    /// Listens at `entry`.
    #[must_use]
    pub fn new(entry: Entry) -> Operators {
        Operators { entry, connected: Vec::new() }
    }

    /// What to poll.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.entry.listener.as_fd()).chain(self.connected.iter().map(|one| one.channel.as_fd()))
    }

    /// Serves what has arrived; returns an order for the loop, if there was one.
    pub fn serve(&mut self, vm: &mut Vm, console: &mut Console) -> Option<Order> {
        self.admit();
        let mut given = None;
        self.connected.retain_mut(|operator| match operator.channel.receive(Some(Duration::ZERO)) {
            Ok(None) => true,
            Ok(Some(packet)) => match operator.answer(packet, vm, console) {
                Ok(order) => {
                    given = given.or(order);
                    true
                }
                Err(_gone) => false,
            },
            Err(_gone) => false,
        });
        given
    }

    fn admit(&mut self) {
        let listener = self.entry.listener.as_raw_fd();
        let mut ready = [nix::poll::PollFd::new(self.entry.listener.as_fd(), nix::poll::PollFlags::POLLIN)];
        if !matches!(nix::poll::poll(&mut ready, nix::poll::PollTimeout::ZERO), Ok(1)) {
            return;
        }
        match accept4(listener, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            Ok(number) => {
                #[allow(unsafe_code)]
                // SAFETY: accept4 has just made this descriptor for us.
                let fd = unsafe { OwnedFd::from_raw_fd(number) };
                if self.connected.len() < OPERATORS_MAX
                    && let Ok(channel) = Channel::from_fd(fd)
                {
                    channel.refuse_descriptors();
                    self.connected.push(Operator { channel, console_at: None, report: None });
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ECONNABORTED) => {}
            // Out of descriptors or memory: operators wait, the VM goes on.
            Err(_) => {}
        }
    }
}

impl Operator {
    fn answer(&mut self, packet: Packet, vm: &mut Vm, console: &mut Console) -> Result<Option<Order>> {
        let call = packet.call.ok_or_else(|| anyhow!("an operator only calls"))?;
        if packet.is::<Command>() {
            let (command, _) = packet.decode::<Command>()?;
            self.channel.reply(call, &Empty, &[])?;
            return Ok(Some(command.order));
        }
        if packet.is::<Status>() {
            let (status, _) = packet.decode::<Status>()?;
            let whole = match self.report.take().filter(|_| status.first > 0) {
                Some(report) => report,
                None => vm.report(status.audit),
            };
            let part = StatusReport {
                name: whole.name.clone(),
                total: whole.total,
                hosts: whole.hosts.iter().skip(status.first as usize).take(HOSTS_PER_REPORT).cloned().collect(),
            };
            self.report = Some(whole);
            self.channel.reply(call, &part, &[])?;
        } else if packet.is::<Logs>() {
            let (logs, _) = packet.decode::<Logs>()?;
            let (lines, next) = vm.log_since(logs.after, LINES_MAX);
            self.channel.reply(call, &LogLines { next, lines }, &[])?;
        } else if packet.is::<Type>() {
            let (typed, _) = packet.decode::<Type>()?;
            vm.type_bytes(&typed.input);
            let (output, next) = console.since(self.console_at.unwrap_or(0), CONSOLE_MAX);
            self.console_at = Some(next);
            self.channel.reply(call, &ConsoleOutput { output }, &[])?;
        } else if packet.is::<Screenshot>() {
            packet.decode::<Screenshot>()?;
            match vm.screenshot() {
                Ok((region, after)) => {
                    let picture = Picture { scanout: region.handle(0), after };
                    self.channel.reply(call, &picture, &[region.as_fd()])?;
                }
                Err(error) => self.channel.refuse(call, &format!("{error:#}"))?,
            }
        } else if packet.is::<Exchange>() {
            let (asked, _) = packet.decode::<Exchange>()?;
            let medium = Medium { path: PathBuf::from(&asked.image), readonly: asked.readonly };
            let medium = Some(medium).filter(|_| !asked.image.is_empty());
            match vm.exchange(&asked.drive, medium.as_ref(), asked.forced) {
                Ok(()) => self.channel.reply(call, &Empty, &[])?,
                Err(error) => self.channel.refuse(call, &format!("{error:#}"))?,
            }
        } else if packet.is::<Press>() {
            let (press, _) = packet.decode::<Press>()?;
            match vm.press(&press.inputs) {
                Ok(()) => self.channel.reply(call, &Empty, &[])?,
                Err(error) => self.channel.refuse(call, &format!("{error:#}"))?,
            }
        } else {
            self.channel.refuse(call, "there is no such question")?;
        }
        Ok(None)
    }
}

/// A connection to a running VM, for the operator's commands.
pub struct Client(Channel);

impl Client {
    /// Connects to the VM `name`.
    pub fn connect(name: &str) -> Result<Client> {
        Ok(Client(Channel::from_fd(runtime::reach(name)?)?))
    }

    fn ask<C: schema::Body, R: schema::Body>(&mut self, body: &C) -> Result<R> {
        self.ask_for(body).map(|(reply, _)| reply)
    }

    fn ask_for<C: schema::Body, R: schema::Body>(&mut self, body: &C) -> Result<(R, Descriptors)> {
        match self.0.call(body, &[], PATIENCE) {
            Ok(reply) => Ok(reply),
            Err(CallError::Gone) => Err(anyhow!("the VM ended")),
            Err(error) => Err(super::refused(error)),
        }
    }

    /// Gives an order.
    pub fn order(&mut self, order: Order) -> Result<()> {
        self.ask::<_, Empty>(&Command { order }).map(drop)
    }

    /// How the VM's processes are.
    pub fn status(&mut self, audit: bool) -> Result<(String, Vec<HostStatus>)> {
        let mut hosts: Vec<HostStatus> = Vec::new();
        loop {
            let part: StatusReport = self.ask(&Status { audit, first: hosts.len() as u32 })?;
            let last = part.hosts.is_empty();
            hosts.extend(part.hosts);
            if last || hosts.len() as u32 >= part.total {
                return Ok((part.name, hosts));
            }
        }
    }

    /// What the display shows.
    pub fn screenshot(&mut self) -> Result<Frame> {
        let (picture, mut descriptors) = self.ask_for::<_, Picture>(&Screenshot)?;
        let descriptor = descriptors.take(picture.scanout.slot).ok_or_else(|| anyhow!("the picture is missing"))?;
        let region = Region::<ReadOnly>::receive(descriptor, &picture.scanout)?;
        Screen::new(&region)?.after(picture.after, PATIENCE)
    }

    /// Has another medium in a drive, or none.
    pub fn exchange(&mut self, drive: &str, medium: Option<&Medium>, forced: bool) -> Result<()> {
        let image = medium.map(|medium| medium.path.to_str().context("a path that is no text")).transpose()?;
        let asked = Exchange {
            drive: drive.to_owned(),
            image: image.unwrap_or_default().to_owned(),
            readonly: medium.is_some_and(|medium| medium.readonly),
            forced,
        };
        self.ask::<_, Empty>(&asked).map(drop)
    }

    /// Does with keyboard and mouse what a person did.
    pub fn press(&mut self, inputs: &[Input]) -> Result<()> {
        for inputs in inputs.chunks(INPUTS_MAX) {
            self.ask::<_, Empty>(&Press { inputs: inputs.to_vec() })?;
        }
        Ok(())
    }

    /// Log lines from number `after` on, and the number to ask for next.
    pub fn logs(&mut self, after: u64) -> Result<(Vec<String>, u64)> {
        let reply: LogLines = self.ask(&Logs { after })?;
        Ok((reply.lines, reply.next))
    }

    /// Types at the console; returns what was printed since the last call.
    pub fn console(&mut self, input: Vec<u8>) -> Result<Vec<u8>> {
        let reply: ConsoleOutput = self.ask(&Type { input })?;
        Ok(reply.output)
    }
}

//! A machine that is driven: on its standard input and output, or by its second name over sockets.

// Each test file uses its own part.
#![allow(dead_code)]

use crate::harness::{PATIENCE, Place};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A machine on its standard input and output.
pub struct Machine {
    pub child: Child,
    to: Box<dyn Write>,
    from: Box<dyn BufRead>,
    /// Interrupts that were told since this was emptied.
    irqs: Vec<String>,
}

impl Machine {
    pub fn start(place: &Place, words: &[&str]) -> Machine {
        let mut command = place.cofferdam();
        let mut child = command
            .arg("qtest")
            .args(["--rtc", "2001-02-28T23:59:58"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Machine { child, to: Box::new(to), from: Box::new(BufReader::new(from)), irqs: Vec::new() }
    }

    /// Says a line, and gives what is answered after `OK`.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").unwrap();
        self.to.flush().unwrap();
        self.answer()
    }

    pub fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "it ended: {:?}", self.child.try_wait());
            let line = line.trim_end();
            match line.strip_prefix("OK") {
                Some(answer) => return answer.trim_start().to_owned(),
                None if line.starts_with("IRQ ") => self.irqs.push(line.to_owned()),
                None => return line.to_owned(),
            }
        }
    }

    pub fn number(&mut self, line: &str) -> u64 {
        let answer = self.ask(line);
        u64::from_str_radix(answer.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{line}: {answer}"))
    }

    pub fn cmos(&mut self, register: u8) -> u64 {
        self.ask(&format!("outb 0x70 {register}"));
        self.number("inb 0x71")
    }

    pub fn set_cmos(&mut self, register: u8, value: u8) {
        self.ask(&format!("outb 0x70 {register}"));
        self.ask(&format!("outb 0x71 {value}"));
    }

    pub fn irqs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.irqs)
    }

    /// Its exit status, once its standard input is closed.
    pub fn end(mut self) -> Option<i32> {
        self.to = Box::new(std::io::sink());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program under its second name, beside the first.
pub fn second_name() -> std::path::PathBuf {
    Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("cofferdam-qtest-system-x86_64")
}

/// A test program that knows the machine by its second name: it listens, and the machine connects.
pub struct Program {
    pub child: Child,
    pub test: Machine,
    qmp: UnixStream,
    monitor: BufReader<UnixStream>,
    /// Events that came before an answer.
    events: VecDeque<Value>,
}

impl Program {
    pub fn start(place: &Place, words: &[&str]) -> Program {
        Program::start_as(place, &second_name(), "qtest", &[&["-audio", "none"], words].concat())
    }

    /// Another program that takes such arguments, with what its guest would run on.
    pub fn start_as(place: &Place, program: &Path, accelerator: &str, words: &[&str]) -> Program {
        let (test_path, monitor_path) = (place.path("qtest"), place.path("qmp"));
        let listen = |path: &Path| UnixListener::bind(path).unwrap();
        let (tests, monitors) = (listen(&test_path), listen(&monitor_path));
        let mut child = Command::new(program)
            .env("COFFERDAM_RUNTIME", place.path("run"))
            .args(["-qtest", &format!("unix:{}", test_path.display()), "-qtest-log"])
            .arg(place.path("log"))
            .args(["-chardev", &format!("socket,path={},id=char0", monitor_path.display())])
            .args(["-mon", "chardev=char0,mode=control", "-display", "none"])
            .args(["-accel", accelerator])
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let accept = |listener: UnixListener, child: &mut Child| {
            listener.set_nonblocking(true).unwrap();
            let until = Instant::now() + PATIENCE;
            loop {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).unwrap();
                    return stream;
                }
                if child.try_wait().unwrap().is_some() || Instant::now() > until {
                    let mut errors = String::new();
                    let _ = child.stderr.take().unwrap().read_to_string(&mut errors);
                    panic!("it did not connect: {errors}");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let test = accept(tests, &mut child);
        let qmp = accept(monitors, &mut child);
        let idle = Command::new("true").spawn().unwrap();
        let test = Machine {
            child: idle,
            to: Box::new(test.try_clone().unwrap()),
            from: Box::new(BufReader::new(test)),
            irqs: Vec::new(),
        };
        let monitor = BufReader::new(qmp.try_clone().unwrap());
        let mut program = Program { child, test, qmp, monitor, events: VecDeque::new() };
        assert!(program.message()["QMP"]["capabilities"].is_array(), "a greeting comes first");
        assert_eq!(program.execute("qmp_capabilities", json!({})), json!({ "return": {} }));
        program
    }

    pub fn message(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.monitor.read_line(&mut line).unwrap() > 0, "the monitor is closed");
        serde_json::from_str(&line).unwrap()
    }

    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        self.say(&json!({ "execute": command, "arguments": arguments }).to_string())
    }

    /// Says something to the monitor, and gives its answer.
    pub fn say(&mut self, text: &str) -> Value {
        writeln!(self.qmp, "{text}").unwrap();
        loop {
            let message = self.message();
            if message.get("event").is_none() {
                return message;
            }
            self.events.push_back(message);
        }
    }

    /// The events that came before the last answer, and were not asked for.
    pub fn told_before(&mut self) -> impl Iterator<Item = Value> {
        self.events.drain(..)
    }

    /// The data of the next event of this name; others are passed over.
    pub fn event(&mut self, name: &str) -> Value {
        loop {
            let message = self.events.pop_front().unwrap_or_else(|| self.message());
            if message["event"] == name {
                return message["data"].clone();
            }
        }
    }

    /// Sends it a signal; its exit status.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

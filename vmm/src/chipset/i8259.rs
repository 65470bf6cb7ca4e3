//! The two 8259A interrupt controllers of a PC, the second behind the first's input 2, for a machine whose kernel has none.
//!
//! No processor takes an interrupt there, so what they would tell one is seen by polling, and in their registers.
//!
//! Sources: Intel 231468, *8259A Programmable Interrupt Controller*; Intel 290550, *82371FB and 82371SB*, "ELCR1" and "ELCR2".

/// The first's input that the second's output drives.
const CASCADE: u8 = 2;
/// Inputs of one.
const INPUTS: u8 = 8;
/// Inputs that can be level triggered (82371SB, "ELCR1", "ELCR2"): not the timer's, keyboard's, cascade's, clock's and coprocessor's.
const CAN_BE_LEVEL: [u8; 2] = [0xf8, 0xde];

/// Bits of the words that begin at an even address (8259A, figures 7 and 8).
const ICW1: u8 = 1 << 4;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW1_FOURTH: u8 = 1 << 0;
const ICW4_AUTOMATIC_END: u8 = 1 << 1;
const ICW4_NESTED: u8 = 1 << 4;
const OCW3: u8 = 1 << 3;
const OCW3_CHOOSE: u8 = 1 << 1;
const OCW3_IN_SERVICE: u8 = 1 << 0;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_SET_MASK_MODE: u8 = 1 << 6;
const OCW3_MASK_MODE: u8 = 1 << 5;
const OCW2_LEVEL: u8 = 0x07;
/// What a poll says beside the input: that there is one.
const POLLED: u8 = 1 << 7;

/// Both.
#[derive(Debug, Default)]
pub struct Pair([Controller; 2]);

/// One of them.
#[derive(Debug, Default, Clone)]
struct Controller {
    /// Levels of the inputs.
    inputs: u8,
    /// Edges that were not acknowledged yet.
    edges: u8,
    /// Inputs whose level is the request.
    by_level: u8,
    mask: u8,
    in_service: u8,
    /// How many inputs the highest priority is above input 0.
    first: u8,
    /// The initialization words that are to come.
    due: Due,
    wants_fourth: bool,
    is_single: bool,
    automatic_end: bool,
    rotates: bool,
    is_nested: bool,
    mask_mode: bool,
    shows_in_service: bool,
    polls: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Due {
    #[default]
    Nothing,
    Second,
    Third,
    Fourth,
}

impl Pair {
    /// One of the sixteen inputs has this level from now on.
    pub fn set_input(&mut self, input: u8, level: bool) {
        // The cascade's is nobody else's.
        if input != CASCADE {
            self.0[usize::from(input / INPUTS % 2)].set_input(input % INPUTS, level);
            self.cascade();
        }
    }

    /// A load of one of the two registers of the first or the second.
    pub fn read(&mut self, second: bool, register: u8) -> u8 {
        let controller = &mut self.0[usize::from(second)];
        let acknowledges = controller.polls;
        let value = controller.read(register, if second { None } else { Some(CASCADE) });
        if second && acknowledges {
            // An acknowledgement takes its output low for a moment.
            self.0[0].set_input(CASCADE, false);
        }
        self.cascade();
        value
    }

    /// A store to one of them.
    pub fn write(&mut self, second: bool, register: u8, value: u8) {
        self.0[usize::from(second)].write(register, value);
        self.cascade();
    }

    /// Which inputs are level triggered.
    pub fn triggers(&self, second: bool) -> u8 {
        self.0[usize::from(second)].by_level
    }

    /// Those are, of the ones that can be.
    pub fn set_triggers(&mut self, second: bool, value: u8) {
        let at = usize::from(second);
        self.0[at].by_level = value & CAN_BE_LEVEL[at];
        self.cascade();
    }

    fn cascade(&mut self) {
        let level = self.0[1].request(None).is_some();
        self.0[0].set_input(CASCADE, level);
    }
}

impl Controller {
    fn set_input(&mut self, input: u8, level: bool) {
        let bit = 1 << input;
        match level {
            true if self.inputs & bit == 0 => (self.inputs, self.edges) = (self.inputs | bit, self.edges | bit),
            true => {}
            // A request that goes away before it is acknowledged is none ("Edge and Level Triggered Modes").
            false => (self.inputs, self.edges) = (self.inputs & !bit, self.edges & !bit),
        }
    }

    /// The interrupt request register.
    fn requests(&self) -> u8 {
        self.edges & !self.by_level | self.inputs & self.by_level
    }

    /// The input to be served next, if it may interrupt what is in service. `cascade` is the one where the second is.
    fn request(&self, cascade: Option<u8>) -> Option<u8> {
        for place in 0..INPUTS {
            let input = (self.first + place) % INPUTS;
            let bit = 1 << input;
            let is_served = self.in_service & bit != 0;
            let is_wanted = self.requests() & !self.mask & bit != 0;
            // The second's more urgent ones interrupt it too ("The Special Fully Nest Mode").
            if is_wanted && (!is_served || self.is_nested && cascade == Some(input)) {
                return Some(input);
            }
            // What is masked holds nothing off ("Special Mask Mode").
            if is_served && !(self.mask_mode && self.mask & bit != 0) {
                return None;
            }
        }
        None
    }

    fn read(&mut self, register: u8, cascade: Option<u8>) -> u8 {
        if std::mem::take(&mut self.polls) {
            return self.acknowledge(cascade);
        }
        match register {
            0 if self.shows_in_service => self.in_service,
            0 => self.requests(),
            _ => self.mask,
        }
    }

    /// A poll: the read is the acknowledgement ("Poll Command").
    fn acknowledge(&mut self, cascade: Option<u8>) -> u8 {
        let Some(input) = self.request(cascade) else { return 0 };
        self.edges &= !(1 << input);
        if !self.automatic_end {
            self.in_service |= 1 << input;
        } else if self.rotates {
            self.first = (input + 1) % INPUTS;
        }
        POLLED | input
    }

    fn write(&mut self, register: u8, value: u8) {
        match (register, self.due) {
            (0, _) if value & ICW1 != 0 => self.initialize(value),
            (0, _) if value & OCW3 != 0 => self.choose(value),
            (0, _) => self.end(value),
            (_, Due::Nothing) => self.mask = value,
            (_, Due::Second) if !self.is_single => self.due = Due::Third,
            (_, Due::Second | Due::Third) => self.due = if self.wants_fourth { Due::Fourth } else { Due::Nothing },
            (_, Due::Fourth) => {
                self.automatic_end = value & ICW4_AUTOMATIC_END != 0;
                self.is_nested = value & ICW4_NESTED != 0;
                self.due = Due::Nothing;
            }
        }
    }

    /// The first initialization word ("Initialization Command Words", "General", a to f). Edges must come anew. Vectors, and which input is
    /// the cascade, concern a processor; on this board they are wired.
    fn initialize(&mut self, value: u8) {
        *self = Controller {
            inputs: self.inputs,
            by_level: self.by_level,
            due: Due::Second,
            wants_fourth: value & ICW1_FOURTH != 0,
            is_single: value & ICW1_SINGLE != 0,
            ..Controller::default()
        };
    }

    /// The second operation word: ends and rotations ("Operation Control Word 2").
    fn end(&mut self, value: u8) {
        let level = value & OCW2_LEVEL;
        let ended = match value >> 5 {
            // What is masked is passed over in special mask mode ("Special Mask Mode").
            0b001 | 0b101 => (0..INPUTS).map(|place| (self.first + place) % INPUTS).find(|input| {
                let bit = 1 << input;
                self.in_service & bit != 0 && !(self.mask_mode && self.mask & bit != 0)
            }),
            0b011 | 0b111 => Some(level),
            0b110 => {
                self.first = (level + 1) % INPUTS;
                None
            }
            rotates @ (0b000 | 0b100) => {
                self.rotates = rotates == 0b100;
                None
            }
            _ => None,
        };
        if let Some(input) = ended {
            self.in_service &= !(1 << input);
            if value >> 5 & 0b100 != 0 {
                self.first = (input + 1) % INPUTS;
            }
        }
    }

    /// The third: what is read, and the special mask mode ("Operation Control Word 3").
    fn choose(&mut self, value: u8) {
        if value & OCW3_SET_MASK_MODE != 0 {
            self.mask_mode = value & OCW3_MASK_MODE != 0;
        }
        // The poll goes before the choice of a register (beside figure 9: polling overrides status read).
        if value & OCW3_POLL != 0 {
            self.polls = true;
        } else if value & OCW3_CHOOSE != 0 {
            self.shows_in_service = value & OCW3_IN_SERVICE != 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As firmware begins it: nested, ends by command, nothing masked.
    fn pair() -> Pair {
        let mut pair = Pair::default();
        for (second, cascade) in [(false, 4), (true, 2)] {
            pair.write(second, 0, 0x11);
            [0x08, cascade, 0x01, 0x00].into_iter().for_each(|word| pair.write(second, 1, word));
        }
        pair
    }

    fn poll(pair: &mut Pair, second: bool) -> u8 {
        pair.write(second, 0, 0x0c);
        pair.read(second, 0)
    }

    fn register(pair: &mut Pair, second: bool, in_service: bool) -> u8 {
        pair.write(second, 0, 0x0a | u8::from(in_service));
        pair.read(second, 0)
    }

    #[test]
    fn a_request_that_is_masked_or_gone_or_less_urgent_is_not_told() {
        let mut pair = pair();
        pair.write(false, 1, 0x10);
        pair.set_input(4, true);
        assert_eq!((poll(&mut pair, false), register(&mut pair, false, false)), (0, 0x10));
        pair.write(false, 1, 0);
        pair.set_input(4, false);
        assert_eq!((poll(&mut pair, false), register(&mut pair, false, false)), (0, 0));
        pair.set_input(1, true);
        assert_eq!(poll(&mut pair, false), 0x81);
        pair.set_input(4, true);
        assert_eq!(poll(&mut pair, false), 0, "1 is in service");
        pair.write(false, 0, 0x20);
        assert_eq!(poll(&mut pair, false), 0x84);
    }

    #[test]
    fn an_edge_is_told_once_and_a_level_until_it_is_low() {
        let mut pair = pair();
        for (input, again) in [(5, 0), (6, 0x86)] {
            pair.set_triggers(false, 0x40);
            pair.set_input(input, true);
            assert_eq!(poll(&mut pair, false), 0x80 | input);
            pair.write(false, 0, 0x60 | input);
            assert_eq!(poll(&mut pair, false), again);
            pair.write(false, 0, 0x60 | input);
            pair.set_input(input, false);
            assert_eq!(poll(&mut pair, false), 0);
        }
        pair.set_triggers(false, 0xff);
        pair.set_triggers(true, 0xff);
        assert_eq!((pair.triggers(false), pair.triggers(true)), (0xf8, 0xde));
    }

    #[test]
    fn the_second_is_behind_input_2_of_the_first() {
        let mut pair = pair();
        pair.set_input(14, true);
        assert_eq!((poll(&mut pair, false), register(&mut pair, false, true)), (0x82, 0x04));
        assert_eq!((poll(&mut pair, true), register(&mut pair, true, true)), (0x86, 0x40));
        pair.write(true, 0, 0x66);
        pair.write(false, 0, 0x62);
        assert_eq!((poll(&mut pair, false), register(&mut pair, true, true)), (0, 0));
        // In special fully nested mode the second's more urgent one interrupts.
        pair.write(false, 0, 0x11);
        [0x08, 0x04, 0x11, 0].into_iter().for_each(|word| pair.write(false, 1, word));
        pair.set_input(15, true);
        assert_eq!((poll(&mut pair, false), poll(&mut pair, true)), (0x82, 0x87));
        pair.set_input(8, true);
        assert_eq!((poll(&mut pair, false), poll(&mut pair, true)), (0x82, 0x80));
    }

    #[test]
    fn priorities_rotate_as_they_are_told() {
        let mut pair = pair();
        pair.write(false, 0, 0xc3);
        pair.set_input(3, true);
        pair.set_input(5, true);
        assert_eq!(poll(&mut pair, false), 0x85, "3 is the last");
        pair.write(false, 0, 0xa0);
        pair.set_input(5, false);
        pair.set_input(5, true);
        assert_eq!(poll(&mut pair, false), 0x83, "5 is the last");
        pair.write(false, 0, 0xe3);
        pair.set_input(4, true);
        assert_eq!(poll(&mut pair, false), 0x84);
    }

    #[test]
    fn ends_can_be_automatic_and_rotate() {
        let mut pair = pair();
        pair.write(false, 0, 0x11);
        [0x08, 0x04, 0x03, 0].into_iter().for_each(|word| pair.write(false, 1, word));
        pair.write(false, 0, 0x80);
        for input in [0, 1] {
            pair.set_input(input, true);
        }
        assert_eq!((poll(&mut pair, false), register(&mut pair, false, true)), (0x80, 0));
        pair.set_input(0, false);
        pair.set_input(0, true);
        assert_eq!((poll(&mut pair, false), poll(&mut pair, false)), (0x81, 0x80));
    }

    #[test]
    fn special_mask_mode_lets_the_less_urgent_through() {
        let mut pair = pair();
        pair.set_input(1, true);
        assert_eq!(poll(&mut pair, false), 0x81);
        pair.set_input(7, true);
        pair.write(false, 1, 0x02);
        assert_eq!(poll(&mut pair, false), 0);
        pair.write(false, 0, 0x68);
        assert_eq!(poll(&mut pair, false), 0x87);
        pair.write(false, 0, 0x20);
        assert_eq!(register(&mut pair, false, true), 0x02, "what is masked is not ended");
        pair.write(false, 0, 0x48);
        pair.write(false, 0, 0x20);
        assert_eq!(register(&mut pair, false, true), 0);
    }

    #[test]
    fn initialization_forgets_edges_masks_and_what_was_in_service() {
        let mut pair = pair();
        pair.set_input(3, true);
        pair.set_input(1, true);
        poll(&mut pair, false);
        pair.write(false, 1, 0xff);
        pair.write(false, 0, 0x13);
        assert_eq!((pair.read(false, 1), register(&mut pair, false, false)), (0, 0));
        [0x08, 0x01].into_iter().for_each(|word| pair.write(false, 1, word));
        assert_eq!(pair.read(false, 1), 0, "a single one has no third word");
        pair.write(false, 1, 0xa5);
        assert_eq!((pair.read(false, 1), register(&mut pair, false, true)), (0xa5, 0));
    }
}

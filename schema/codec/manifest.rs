//! What a device declares of itself.

use super::{
    Record, bounded, enumeration, read_blocks, read_data, read_list, read_text, read_texts, struct_words, words,
    write_list, write_texts,
};
use crate::BadBody;
use crate::manifest::{
    Acpi, AcpiNode, CAPABILITY_MAX, Class, Doorbell, Fixed, LINES_MAX, LIST_MAX, Line, Manifest, NAME_MAX, NODES_MAX,
    OptionKind, OptionSpec, Pci, PciRegister, Power, Range, Register, RegisterKind, Space, Switch, TEXT_MAX, Tolerance,
    Wish,
};
use crate::wire::manifest_capnp as wire;

enumeration!(Class = wire::Class; Block, Net, Char, Timer, Display, Entropy, System);
enumeration!(Power = wire::Power; Stream, Memory, LowMemory, FileRead, FileWrite, Switch, Direct, Entropy, Scanout,
    Frames);
enumeration!(Switch = wire::Switch; Reset, PowerOff, Panicked, Exit, CrashLoaded);
enumeration!(OptionKind = wire::OptionKind; Number, Text, Flag);

impl Record for Manifest {
    type Wire = wire::manifest::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("name", &self.name, NAME_MAX)?
            + words::text("summary", &self.summary, TEXT_MAX)?
            + words::list("ranges", &self.ranges, LIST_MAX)?
            + words::list("registers", &self.registers, LIST_MAX)?
            + words::list("lines", &self.lines, LINES_MAX)?
            + words::list("doorbells", &self.doorbells, LIST_MAX)?
            + words::list("wishes", &self.wishes, LIST_MAX)?
            + self.pci.as_ref().map_or(Ok(0), words::record)?
            + self.acpi.as_ref().map_or(Ok(0), words::record)?
            + words::texts("with", &self.with, LIST_MAX, NAME_MAX)?
            + words::list("options", &self.options, LIST_MAX)?)
    }
    fn write(&self, mut to: wire::manifest::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_summary(self.summary.as_str());
        to.set_class(self.class.to_wire());
        write_list(&self.ranges, to.reborrow().init_ranges(self.ranges.len() as u32));
        write_list(&self.registers, to.reborrow().init_registers(self.registers.len() as u32));
        write_list(&self.lines, to.reborrow().init_lines(self.lines.len() as u32));
        to.set_vectors(self.vectors);
        write_list(&self.doorbells, to.reborrow().init_doorbells(self.doorbells.len() as u32));
        write_list(&self.wishes, to.reborrow().init_wishes(self.wishes.len() as u32));
        to.set_state_bytes(self.state_bytes);
        to.set_bulk_bytes(self.bulk_bytes);
        if let Some(pci) = &self.pci {
            pci.write(to.reborrow().init_pci());
        }
        if let Some(acpi) = &self.acpi {
            acpi.write(to.reborrow().init_acpi());
        }
        write_texts(&self.with, to.reborrow().init_with(self.with.len() as u32));
        write_list(&self.options, to.reborrow().init_options(self.options.len() as u32));
        to.set_remembered(self.remembered);
    }
    fn read(from: wire::manifest::Reader<'_>) -> Result<Self, BadBody> {
        let manifest = Manifest {
            name: read_text("name", from.get_name(), NAME_MAX)?,
            summary: read_text("summary", from.get_summary(), TEXT_MAX)?,
            class: Class::from_wire("class", from.get_class())?,
            ranges: read_list("ranges", from.get_ranges(), LIST_MAX)?,
            registers: read_list("registers", from.get_registers(), LIST_MAX)?,
            lines: read_list("lines", from.get_lines(), LINES_MAX)?,
            vectors: from.get_vectors(),
            doorbells: read_list("doorbells", from.get_doorbells(), LIST_MAX)?,
            wishes: read_list("wishes", from.get_wishes(), LIST_MAX)?,
            state_bytes: from.get_state_bytes(),
            bulk_bytes: from.get_bulk_bytes(),
            pci: if from.has_pci() { Some(Pci::read(from.get_pci()?)?) } else { None },
            acpi: if from.has_acpi() { Some(Acpi::read(from.get_acpi()?)?) } else { None },
            with: read_texts("with", from.get_with(), LIST_MAX, NAME_MAX)?,
            options: read_list("options", from.get_options(), LIST_MAX)?,
            remembered: from.get_remembered(),
        };
        manifest.check()?;
        Ok(manifest)
    }
}

impl Record for Range {
    type Wire = wire::range::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::text("name", &self.name, NAME_MAX)
    }
    fn write(&self, mut to: wire::range::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_length(self.length);
        let mut space = to.init_space();
        match self.space {
            Space::Port(port) => space.set_port(port),
            Space::Memory(address) => space.set_memory(address),
            Space::Bar(bar) => space.set_bar(bar),
            Space::PortBar(bar) => space.set_port_bar(bar),
        }
    }
    fn read(from: wire::range::Reader<'_>) -> Result<Self, BadBody> {
        use wire::range::space;
        Ok(Range {
            name: read_text("name", from.get_name(), NAME_MAX)?,
            length: from.get_length(),
            space: match from.get_space().which() {
                Ok(space::Port(port)) => Space::Port(port),
                Ok(space::Memory(address)) => Space::Memory(address),
                Ok(space::Bar(bar)) => Space::Bar(bar),
                Ok(space::PortBar(bar)) => Space::PortBar(bar),
                Ok(space::Invalid(())) | Err(capnp::NotInSchema(_)) => return Err(BadBody::Unknown("space")),
            },
        })
    }
}

impl Record for Register {
    type Wire = wire::register::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        match &self.kind {
            RegisterKind::Posted(_) | RegisterKind::Strings => Ok(0),
            RegisterKind::PostedValue { .. } => {
                Ok(<wire::posted_value::Builder<'_> as capnp::traits::HasStructSize>::STRUCT_SIZE.total() as usize)
            }
            RegisterKind::Area { .. } => {
                Ok(<wire::posted_area::Builder<'_> as capnp::traits::HasStructSize>::STRUCT_SIZE.total() as usize)
            }
            RegisterKind::Shadow { tolerates, .. } => {
                let shadow = <wire::shadow::Builder<'_> as capnp::traits::HasStructSize>::STRUCT_SIZE.total() as usize;
                Ok(shadow + words::list("tolerates", tolerates, LIST_MAX)?)
            }
        }
    }
    fn write(&self, mut to: wire::register::Builder<'_>) {
        to.set_range(self.range);
        to.set_offset(self.offset);
        to.set_width(self.width);
        let mut kind = to.init_kind();
        match &self.kind {
            RegisterKind::Posted(bit) => kind.set_posted(*bit),
            RegisterKind::Strings => kind.set_strings(()),
            RegisterKind::PostedValue { posted, mask, value } => {
                let mut some = kind.init_posted_value();
                some.set_posted(*posted);
                some.set_mask(*mask);
                some.set_value(*value);
            }
            RegisterKind::Area { posted, length } => {
                let mut area = kind.init_area();
                area.set_posted(*posted);
                area.set_length(*length);
            }
            RegisterKind::Shadow { slot, tolerates } => {
                let mut shadow = kind.init_shadow();
                shadow.set_slot(*slot);
                write_list(tolerates, shadow.init_tolerates(tolerates.len() as u32));
            }
        }
    }
    fn read(from: wire::register::Reader<'_>) -> Result<Self, BadBody> {
        use wire::register::kind;
        Ok(Register {
            range: from.get_range(),
            offset: from.get_offset(),
            width: from.get_width(),
            kind: match from.get_kind().which() {
                Ok(kind::Posted(bit)) => RegisterKind::Posted(bit),
                Ok(kind::Strings(())) => RegisterKind::Strings,
                Ok(kind::PostedValue(some)) => {
                    let some = some?;
                    let (posted, mask, value) = (some.get_posted(), some.get_mask(), some.get_value());
                    RegisterKind::PostedValue { posted, mask, value }
                }
                Ok(kind::Area(area)) => {
                    let area = area?;
                    RegisterKind::Area { posted: area.get_posted(), length: area.get_length() }
                }
                Ok(kind::Shadow(shadow)) => {
                    let shadow = shadow?;
                    RegisterKind::Shadow {
                        slot: shadow.get_slot(),
                        tolerates: read_list("tolerates", shadow.get_tolerates(), LIST_MAX)?,
                    }
                }
                Ok(kind::Invalid(())) | Err(capnp::NotInSchema(_)) => return Err(BadBody::Unknown("kind")),
            },
        })
    }
}

impl Record for Tolerance {
    type Wire = wire::tolerance::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::tolerance::Builder<'_>) {
        to.set_posted(self.posted);
        to.set_count(self.count);
    }
    fn read(from: wire::tolerance::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Tolerance { posted: from.get_posted(), count: from.get_count() })
    }
}

impl Record for Line {
    type Wire = wire::line::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::line::Builder<'_>) {
        match self {
            Line::Isa(number) => to.set_isa(*number),
            Line::Pin(pin) => to.set_pin(*pin),
        }
    }
    fn read(from: wire::line::Reader<'_>) -> Result<Self, BadBody> {
        match from.which() {
            Ok(wire::line::Isa(number)) => Ok(Line::Isa(number)),
            Ok(wire::line::Pin(pin)) => Ok(Line::Pin(pin)),
            Ok(wire::line::Invalid(())) | Err(capnp::NotInSchema(_)) => Err(BadBody::Unknown("line")),
        }
    }
}

impl Record for Doorbell {
    type Wire = wire::doorbell::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::doorbell::Builder<'_>) {
        to.set_range(self.range);
        to.set_offset(self.offset);
        to.set_width(self.width);
    }
    fn read(from: wire::doorbell::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Doorbell { range: from.get_range(), offset: from.get_offset(), width: from.get_width() })
    }
}

impl Record for Wish {
    type Wire = wire::wish::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("name", &self.name, NAME_MAX)? + words::text("because", &self.because, TEXT_MAX)?)
    }
    fn write(&self, mut to: wire::wish::Builder<'_>) {
        to.set_power(self.power.to_wire());
        to.set_name(self.name.as_str());
        to.set_switch(self.switch.map_or(wire::Switch::Invalid, Switch::to_wire));
        to.set_bytes(self.bytes);
        to.set_range(self.range);
        to.set_because(self.because.as_str());
    }
    fn read(from: wire::wish::Reader<'_>) -> Result<Self, BadBody> {
        let power = Power::from_wire("power", from.get_power())?;
        Ok(Wish {
            power,
            name: read_text("name", from.get_name(), NAME_MAX)?,
            // Zero is this field's way to be absent; the power says whether it may be.
            switch: match (power, from.get_switch()) {
                (Power::Switch, claimed) => Some(Switch::from_wire("switch", claimed)?),
                (_, Ok(wire::Switch::Invalid)) => None,
                (_, _) => return Err(BadBody::OutOfRange("switch")),
            },
            bytes: from.get_bytes(),
            range: from.get_range(),
            because: read_text("because", from.get_because(), TEXT_MAX)?,
        })
    }
}

impl Record for Pci {
    type Wire = wire::pci::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        bounded("capabilities", self.capabilities.len(), LIST_MAX)?;
        let capabilities = self.capabilities.iter().try_fold(self.capabilities.len(), |sum, capability| {
            Ok::<usize, BadBody>(sum + words::data("capabilities", capability, CAPABILITY_MAX)?)
        })?;
        Ok(capabilities + words::list("pci registers", &self.registers, LIST_MAX)?)
    }
    fn write(&self, mut to: wire::pci::Builder<'_>) {
        to.set_vendor(self.vendor);
        to.set_device(self.device);
        to.set_subsystem_vendor(self.subsystem_vendor);
        to.set_subsystem(self.subsystem);
        to.set_class(self.class);
        to.set_revision(self.revision);
        to.set_vector_bar(self.vector_bar);
        to.set_bridge_function(self.bridge_function);
        let mut capabilities = to.reborrow().init_capabilities(self.capabilities.len() as u32);
        for (index, capability) in (0..).zip(&self.capabilities) {
            capabilities.set(index, capability);
        }
        write_list(&self.registers, to.init_registers(self.registers.len() as u32));
    }
    fn read(from: wire::pci::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Pci {
            vendor: from.get_vendor(),
            device: from.get_device(),
            subsystem_vendor: from.get_subsystem_vendor(),
            subsystem: from.get_subsystem(),
            class: from.get_class(),
            revision: from.get_revision(),
            capabilities: read_blocks("capabilities", from.get_capabilities(), LIST_MAX, CAPABILITY_MAX)?,
            vector_bar: from.get_vector_bar(),
            registers: read_list("pci registers", from.get_registers(), LIST_MAX)?,
            bridge_function: from.get_bridge_function(),
        })
    }
}

impl Record for PciRegister {
    type Wire = wire::pci_register::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::data("value", &self.value, CAPABILITY_MAX)?
            + words::data("writable", &self.writable, CAPABILITY_MAX)?)
    }
    fn write(&self, mut to: wire::pci_register::Builder<'_>) {
        to.set_offset(self.offset);
        to.set_value(&self.value);
        to.set_writable(&self.writable);
    }
    fn read(from: wire::pci_register::Reader<'_>) -> Result<Self, BadBody> {
        Ok(PciRegister {
            offset: from.get_offset(),
            value: read_data("value", from.get_value(), CAPABILITY_MAX)?,
            writable: read_data("writable", from.get_writable(), CAPABILITY_MAX)?,
        })
    }
}

impl Record for Acpi {
    type Wire = wire::acpi::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        let fixed = if self.fixed.is_some() { struct_words::<Fixed>() } else { 0 };
        Ok(words::text("acpi name", &self.name, NAME_MAX)?
            + words::text("hid", &self.hid, NAME_MAX)?
            + words::list("also", &self.also, NODES_MAX)?
            + fixed)
    }
    fn write(&self, mut to: wire::acpi::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_hid(self.hid.as_str());
        to.set_uid(self.uid);
        to.set_boot_arch(self.boot_arch);
        to.set_century(self.century);
        if let Some(fixed) = &self.fixed {
            fixed.write(to.reborrow().init_fixed());
        }
        write_list(&self.also, to.init_also(self.also.len() as u32));
    }
    fn read(from: wire::acpi::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Acpi {
            name: read_text("acpi name", from.get_name(), NAME_MAX)?,
            hid: read_text("hid", from.get_hid(), NAME_MAX)?,
            uid: from.get_uid(),
            boot_arch: from.get_boot_arch(),
            century: from.get_century(),
            fixed: if from.has_fixed() { Some(Fixed::read(from.get_fixed()?)?) } else { None },
            also: read_list("also", from.get_also(), NODES_MAX)?,
        })
    }
}

impl Record for AcpiNode {
    type Wire = wire::acpi_node::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("acpi name", &self.name, NAME_MAX)? + words::text("hid", &self.hid, NAME_MAX)?)
    }
    fn write(&self, mut to: wire::acpi_node::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_hid(self.hid.as_str());
        to.set_line(self.line);
    }
    fn read(from: wire::acpi_node::Reader<'_>) -> Result<Self, BadBody> {
        Ok(AcpiNode {
            name: read_text("acpi name", from.get_name(), NAME_MAX)?,
            hid: read_text("hid", from.get_hid(), NAME_MAX)?,
            line: from.get_line(),
        })
    }
}

impl Record for Fixed {
    type Wire = wire::fixed::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::fixed::Builder<'_>) {
        to.set_event(self.event);
        to.set_control(self.control);
        to.set_timer(self.timer);
        to.set_sci(self.sci);
        to.set_sleep_type(self.sleep_type);
    }
    fn read(from: wire::fixed::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Fixed {
            event: from.get_event(),
            control: from.get_control(),
            timer: from.get_timer(),
            sci: from.get_sci(),
            sleep_type: from.get_sleep_type(),
        })
    }
}

impl Record for OptionSpec {
    type Wire = wire::option_spec::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("name", &self.name, NAME_MAX)?
            + words::text("default", &self.default, TEXT_MAX)?
            + words::text("summary", &self.summary, TEXT_MAX)?)
    }
    fn write(&self, mut to: wire::option_spec::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_kind(self.kind.to_wire());
        to.set_default(self.default.as_str());
        to.set_summary(self.summary.as_str());
    }
    fn read(from: wire::option_spec::Reader<'_>) -> Result<Self, BadBody> {
        Ok(OptionSpec {
            name: read_text("name", from.get_name(), NAME_MAX)?,
            kind: OptionKind::from_wire("kind", from.get_kind())?,
            default: read_text("default", from.get_default(), TEXT_MAX)?,
            summary: read_text("summary", from.get_summary(), TEXT_MAX)?,
        })
    }
}

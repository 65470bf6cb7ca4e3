//! The arguments of test programs, and what comes of them.

use super::*;
use vmm::supervisor::Outlet;

fn asked(words: &str) -> Result<Setup> {
    parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

fn refused(words: &str) -> String {
    asked(words).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn what_we_do_not_have_is_refused_with_a_sentence() {
    assert_eq!(refused("-frobnicate 1"), "-frobnicate: invalid option");
    assert_eq!(refused("-m"), "-m: there is no such option, or its value is missing");
    assert!(refused("-machine q35").contains("unsupported machine type"));
    assert!(refused("-device e1000").contains("'e1000' is not a valid device model name"));
    assert!(refused("-mon chardev=x,mode=control").contains("no chardev `x`"));
    assert!(refused("-mon chardev=x,mode=readline").contains("mode=control"));
    assert!(refused("-chardev file,id=x,path=/a -mon chardev=x,mode=control").contains("on a socket"));
    for words in [
        "-netdev tap,id=n",
        "-nic user,model=e1000",
        "-net socket,listen=:1",
        "-boot order=xyz",
        "-boot sideways=on",
        "-watchdog-action dance",
        "-smp 2,maxcpus=1",
        "-drive file=a,format=qcow2",
        "-drive file=a,if=scsi",
        "-drive file=blkdebug:errors:a",
        "-readconfig a",
        "-drive file=a,snapshot=on",
        "-blockdev qcow2,node-name=n,filename=a",
        "-blockdev raw,node-name=n,file=m",
        "-blockdev {nonsense",
        "-device ide-hd",
        "-device ide-hd,drive=d",
        "-device isa-serial,index=4",
        "-chardev socket,id=x,fd=1",
        "-vga cirrus",
        "-serial pty",
        "-parallel stdio",
        "-serial chardev:x",
        "-smp 0",
        "-smp many",
        "-global isa-fdc.driveA=x",
        "-object memory-backend-ram,id=m",
        "-monitor stdio",
        "-uuid 12",
        "-fw_cfg opt/a",
    ] {
        let said = refused(words);
        let option = words.split(' ').next().unwrap_or_default();
        assert!(said.starts_with(option), "{words}: {said}");
    }
    assert!(refused("-qtest tcp:1").contains("unix:PATH"));
    assert!(refused("-rtc base=never").contains("never"));
}

#[test]
fn the_arguments_of_a_test_program_say_what_it_needs() {
    let setup = asked(
        "-qtest unix:/t/q -qtest-log none -chardev socket,path=/t/m,id=char0 -mon chardev=char0,mode=control -display none \
         -audio none -accel qtest -machine pc -m 64 -nodefaults -S -device ib700,id=w -watchdog-action pause",
    )
    .unwrap();
    assert_eq!(setup.ways.test, Link::Connect("/t/q".into()));
    assert_eq!(setup.ways.monitors, [Link::Connect("/t/m".into())]);
    assert!(setup.machine.is_virtual && !setup.machine.runs && setup.ways.log.is_none());
    assert_eq!(setup.machine.plan.memory_bytes, 64 << 20);
    assert_eq!(setup.actions.watchdog, Watchdog::Pause);
    assert!(setup.machine.plan.devices.iter().any(|device| device.device == "ib700"));
}

#[test]
fn ports_items_and_processors_are_as_they_were_asked_for() {
    let setup = asked(
        "-serial file:/t/a -serial null -parallel chardev:p -smp 4,sockets=1 -vga std -nic none -monitor none \
         -fw_cfg name=opt/a,string=b -uuid 4600cb32-38ec-4b2f-8acb-81c6ea54f2d8",
    );
    let missing = setup.err().expect("there is no chardev `p`").to_string();
    assert!(missing.starts_with("-parallel chardev:p"), "{missing}");
    let words = "-chardev file,id=p,path=/t/p -serial file:/t/a -serial null -parallel chardev:p -smp 4 -vga std";
    let plan = asked(words).unwrap().machine.plan;
    let outlet = |name: &str| plan.devices.iter().find(|device| device.device == name).map(|device| &device.outlet);
    assert_eq!(outlet("uart16550"), Some(&Outlet::File("/t/a".into())));
    assert_eq!(outlet("parallel"), Some(&Outlet::File("/t/p".into())));
    assert_eq!(plan.devices.iter().filter(|device| device.device == "uart16550").count(), 2);
    assert!(outlet("vga").is_some() && outlet("fw-cfg").is_some());
    let uuid = machine::uuid("4600cb32-38ec-4b2f-8acb-81c6ea54f2d8").unwrap();
    assert_eq!((uuid[0], uuid[15]), (0x46, 0xd8));
}

#[test]
fn a_server_s_socket_is_listened_at() {
    let setup = asked("-qtest unix:/t/q,server=on,wait=off -machine none").unwrap();
    assert_eq!(setup.ways.test, Link::Listen("/t/q".into()));
    assert!(setup.machine.plan.devices.is_empty());
}

#[test]
fn drives_are_where_they_were_put() {
    let setup = asked(
        "-nodefaults -drive file=/t/a,if=none,id=a,format=raw -blockdev file,node-name=f,filename=/t/b \
         -blockdev {\"driver\":\"raw\",\"node-name\":\"b\",\"file\":\"f\"} -device ide-hd,drive=a,bus=ide.1,unit=1,serial=s,cyls=9,heads=8,secs=7 \
         -device ide-cd,drive=b,bus=ide.0,id=c -drive file=blkdebug::/t/d,index=1 -global ide-hd.ver=v2 -device floppy,unit=1,id=fd \
         -device virtio-blk-pci,drive=e,addr=0x1a -S",
    );
    assert!(setup.err().expect("there is no drive `e`").to_string().contains("no drive `e`"));
    let setup = asked(
        "-nodefaults -drive file=/t/a,if=none,id=a,format=raw -blockdev file,node-name=f,filename=/t/b \
         -blockdev {\"driver\":\"raw\",\"node-name\":\"b\",\"file\":\"f\"} -device ide-hd,drive=a,bus=ide.1,unit=1,serial=s,cyls=9,heads=8,secs=7 \
         -device ide-cd,drive=b,bus=ide.0,id=c -drive file=blkdebug::/t/d,index=1 -global ide-hd.ver=v2 -device floppy,unit=1,id=fd \
         -drive if=none,id=e,file=/t/e -device virtio-blk-pci,drive=e,addr=0x1a -device rtl8139,addr=4.0",
    )
    .unwrap();
    let device = |name: &str| setup.machine.plan.devices.iter().find(|device| device.device == name).unwrap();
    let ide: Vec<String> =
        device("piix-ide").options.iter().map(|option| format!("{}={}", option.name, option.value)).collect();
    assert_eq!(
        ide,
        [
            "primary=cdrom",
            "primary-slave=disk",
            "primary-slave-version=v2",
            "secondary-slave=disk",
            "secondary-slave-serial=s",
            "secondary-slave-version=v2",
            "secondary-slave-geometry=9/8/7",
        ]
    );
    assert_eq!((device("virtio-block").slot, device("rtl8139").slot), (Some(0x1a), Some(4)));
    for (name, own) in [("fd", "floppy1"), ("c", "cdrom0"), ("b", "cdrom0"), ("ide0-cd0", "cdrom0")] {
        assert!(
            setup.names.drives.iter().any(|known| known.name == name && known.drive == own),
            "{name}: {:?}",
            setup.names.drives
        );
    }
}

#[test]
fn a_pc_has_what_pcs_usually_have_unless_it_is_to_have_nothing() {
    let has = |words: &str| {
        let plan = asked(words).unwrap().machine.plan;
        let option = |name: &str, option: &str| {
            let device = plan.devices.iter().find(|device| device.device == name)?;
            device.options.iter().find(|one| one.name == option).map(|one| one.value.clone())
        };
        let serial = plan.devices.iter().any(|device| device.device == "uart16550");
        (serial, option("piix-ide", "secondary"), option("mc146818", "floppies"))
    };
    assert_eq!(has(""), (true, Some("empty".into()), Some("64".into())));
    assert_eq!(has("-nodefaults"), (false, None, Some("0".into())));
    assert_eq!(has("-nodefaults -serial null -device floppy,drive-type=288"), (true, None, Some("80".into())));
}

#[test]
fn firmware_is_told_the_order_of_boot_and_another_after_a_reset() {
    let order = |words: &str| {
        let setup = asked(words).unwrap();
        let clock = setup.machine.plan.devices.iter().find(|device| device.device == "mc146818").unwrap();
        let boot = clock.options.iter().find(|option| option.name == "boot").unwrap().value.clone();
        (boot, setup.machine.order_after)
    };
    assert_eq!(order(""), ("cad".into(), None));
    assert_eq!(order("-boot nda"), ("nda".into(), None));
    assert_eq!(order("-boot order= -boot menu=on"), (String::new(), None));
    assert_eq!(order("-boot once=b -boot once=d,order=c"), ("d".into(), Some("c".into())));
}

#[test]
fn ports_are_those_of_a_pc() {
    let setup = asked("-device isa-serial,index=3 -device isa-parallel").unwrap();
    let options = |name: &str| {
        let found = setup.machine.plan.devices.iter().rfind(|device| device.device == name).unwrap();
        found.options.iter().map(|option| format!("{}={}", option.name, option.value)).collect::<Vec<_>>()
    };
    assert_eq!(options("uart16550"), ["port=744", "irq=3"]);
    assert_eq!(options("parallel"), ["port=632", "irq=7"]);
}

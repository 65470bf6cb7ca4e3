use super::*;
use schema::lane::Carrier;
use schema::manifest::{Class, Manifest, Power, Wish};

pub(crate) fn device(name: &str, powers: &[Power]) -> Manifest {
    let wish = |power: &Power| Wish {
        power: *power,
        name: "it".into(),
        switch: None,
        bytes: 4096,
        range: 0,
        because: "a test wants it".into(),
    };
    Manifest {
        name: name.into(),
        summary: String::new(),
        class: Class::System,
        ranges: vec![],
        registers: vec![],
        lines: vec![],
        vectors: 0,
        doorbells: vec![],
        wishes: powers.iter().map(wish).collect(),
        state_bytes: 64,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    }
}

fn calls(recipe: &Recipe) -> Vec<&'static str> {
    recipe.calls.iter().map(|permit| permit.call.name).collect()
}

const EVERYTHING: [Power; 10] = [
    Power::Stream,
    Power::Memory,
    Power::LowMemory,
    Power::FileRead,
    Power::FileWrite,
    Power::Switch,
    Power::Direct,
    Power::Entropy,
    Power::Scanout,
    Power::Frames,
];

#[test]
fn a_device_of_registers_and_rings_is_left_what_mode_1_leaves() {
    let recipe = Recipe::host(Level::Seccomp, &[device("uart", &[Power::Stream, Power::Frames, Power::Switch])]);
    assert_eq!(calls(&recipe), ["read", "write", "exit", "rt_sigreturn"]);
    assert_eq!(recipe.syscalls_allowed(), 4);
}

#[test]
fn at_level_strict_a_device_is_left_what_mode_1_leaves_whatever_its_powers() {
    let recipe = Recipe::host(Level::Strict, &[device("it", &EVERYTHING)]);
    assert_eq!(calls(&recipe), ["read", "write", "exit", "rt_sigreturn"]);
    assert!(recipe.descriptors.iter().all(|keep| keep.kind != DescriptorKind::File));
    assert!(Recipe::host(Level::Strict, &[device("uart", &[Power::Stream, Power::Memory])]).helper.is_none());
}

#[test]
fn a_helper_is_left_what_its_devices_powers_need_and_no_guest_memory() {
    let helper = |power| {
        let host = Recipe::host(Level::Strict, &[device("it", &[Power::Memory, power])]);
        host.helper_of(HelperForm::Process).expect("a helper").clone()
    };
    let added = |power| calls(&helper(power))[4..].to_vec();
    assert_eq!(added(Power::FileRead), ["preadv"]);
    assert_eq!(added(Power::FileWrite), ["preadv", "pwritev", "fdatasync"]);
    assert_eq!(added(Power::Entropy), ["getrandom"]);
    for power in [Power::FileRead, Power::FileWrite, Power::Entropy] {
        assert!(helper(power).memory.iter().all(|share| share.name == "cofferdam:helper"), "{power:?}");
    }
}

#[test]
fn what_a_helper_thread_may_is_counted_as_its_process_may() {
    let of = |form| {
        let host = Recipe::host_with(Level::Strict, &[device("disk", &[Power::FileWrite])], &[Carrier::Memory], form);
        (host.threads, host.syscalls_allowed())
    };
    assert_eq!(of(HelperForm::Process), (1, 4));
    assert_eq!(of(HelperForm::Thread), (2, 8));
}

#[test]
fn a_power_adds_the_calls_that_it_needs() {
    let added = |power| {
        let recipe = Recipe::host(Level::Seccomp, &[device("it", &[power])]);
        calls(&recipe)[4..].to_vec()
    };
    assert_eq!(added(Power::FileRead), ["pread64", "preadv"]);
    assert_eq!(added(Power::FileWrite), ["pread64", "preadv", "pwrite64", "pwritev", "fdatasync"]);
    assert_eq!(added(Power::Entropy), ["getrandom"]);
    assert_eq!(added(Power::Memory), Vec::<&str>::new());
}

#[test]
fn no_host_is_left_more_than_twelve_calls_and_no_vmm_more_than_thirty() {
    assert!(Recipe::host(Level::Seccomp, &[device("it", &EVERYTHING)]).syscalls_allowed() <= 12);
    assert!(Recipe::vmm(Level::Seccomp, 16, true, &[device("it", &EVERYTHING)], false).syscalls_allowed() <= 30);
}

#[test]
fn a_net_relay_has_one_network_and_little_else() {
    for network in [Network::Tap, Network::Socket] {
        let recipe = Recipe::net_relay(Level::Strict, network);
        assert_eq!(recipe.level, Level::Seccomp);
        assert!(recipe.syscalls_allowed() <= 12, "{:?}", calls(&recipe));
        assert!(recipe.memory.iter().all(|share| share.name == "cofferdam:frames"));
        let held: Vec<_> = recipe.held_at(Stage::Sealed).map(|keep| keep.purpose).collect();
        assert_eq!(held, ["channel", "network", "bell", "wake"]);
    }
    assert_eq!(Recipe::net_relay(Level::Off, Network::Tap).syscalls_allowed(), 0);
}

#[test]
fn a_display_relay_has_its_viewers_the_picture_and_little_else() {
    for listeners in [1, 2] {
        let recipe = Recipe::display_relay(Level::Strict, listeners);
        assert_eq!(recipe.level, Level::Seccomp);
        let made = ["socket", "bind", "connect", "listen", "sendmsg", "recvmsg", "openat", "mmap"];
        assert!(recipe.syscalls_allowed() <= 9 && calls(&recipe).iter().all(|call| !made.contains(call)));
        let memory: Vec<_> = recipe.memory.iter().map(|share| (share.name, share.mode)).collect();
        assert_eq!(memory, [("cofferdam:scanout", Mode::Read), ("cofferdam:stream", Mode::Both)]);
        let held: Vec<_> = recipe.held_at(Stage::Sealed).map(|keep| (keep.purpose, keep.count.most())).collect();
        let expected = [
            ("placeholder", 3),
            ("channel", 1),
            ("listener", listeners),
            ("bell", 1),
            ("wanted", 1),
            ("viewer", VIEWERS_MAX),
        ];
        assert_eq!(held, expected);
        // No number beyond those that it holds and those of its viewers.
        let files = recipe.limits_at(Stage::Sealed).into_iter().find(|limit| limit.resource == Resource::OpenFiles);
        assert_eq!(files.unwrap().value, Value::Exactly(u64::from(6 + listeners + VIEWERS_MAX)));
    }
    assert_eq!(Recipe::display_relay(Level::Off, 1).syscalls_allowed(), 0);
}

#[test]
fn guest_memory_is_in_the_recipe_of_who_wishes_for_it_alone() {
    let memory = |powers: &[Power]| {
        let recipe = Recipe::host(Level::Seccomp, &[device("it", powers)]);
        recipe.memory.into_iter().find(|share| share.guest).map(|share| share.bytes)
    };
    assert_eq!(memory(&[Power::Stream, Power::FileWrite]), None);
    assert_eq!(memory(&[Power::LowMemory]), Some(Some(16 << 20)));
    assert_eq!(memory(&[Power::Memory]), Some(None));
    assert_eq!(memory(&[Power::Memory, Power::LowMemory]), Some(None));
}

#[test]
fn hosts_that_write_no_file_may_write_none() {
    let limit = |powers: &[Power]| {
        let recipe = Recipe::host(Level::Seccomp, &[device("it", powers)]);
        recipe
            .limits_at(Stage::Sealed)
            .into_iter()
            .find(|limit| limit.resource == Resource::FileBytes)
            .map(|limit| limit.value)
    };
    assert_eq!(limit(&[Power::FileRead]), Some(Value::Exactly(0)));
    assert_eq!(limit(&[Power::FileWrite]), Some(Value::LargestFile));
}

#[test]
fn what_is_done_at_the_start_depends_on_the_level_alone() {
    let (one, other) = (Recipe::host(Level::Seccomp, &[]), Recipe::host(Level::Seccomp, &[device("it", &EVERYTHING)]));
    assert_eq!(one.layers, other.layers);
    assert_eq!(one.limits_at(Stage::Confined), other.limits_at(Stage::Confined));
    assert!(one.held_at(Stage::Confined).eq(other.held_at(Stage::Confined)));
}

#[test]
fn every_entry_has_a_reason_and_is_printed() {
    for recipe in [
        Recipe::host(Level::Seccomp, &[device("it", &EVERYTHING)]),
        Recipe::host(Level::Strict, &[device("it", &EVERYTHING)]),
        Recipe::vmm(Level::Seccomp, 2, true, &[device("it", &EVERYTHING)], true),
        Recipe::net_relay(Level::Seccomp, Network::Tap),
        Recipe::net_relay(Level::Strict, Network::Socket),
        Recipe::display_relay(Level::Seccomp, 2),
    ] {
        let text = recipe.to_string();
        let helper = recipe.helper_of(HelperForm::Process).map_or(String::new(), Recipe::to_string);
        assert!(text.ends_with(&helper), "{text}");
        let reasons = recipe.layers.iter().map(|layer| &layer.because);
        let reasons = reasons.chain(recipe.limits.iter().map(|limit| &limit.because));
        let reasons = reasons.chain(recipe.descriptors.iter().map(|keep| &keep.because));
        let reasons = reasons.chain(recipe.memory.iter().map(|share| &share.because));
        for because in reasons.chain(recipe.calls.iter().map(|permit| &permit.because)) {
            assert!(!because.is_empty() && text.contains(because.as_ref()), "{because}");
        }
    }
}

#[test]
fn a_level_without_a_filter_says_so() {
    let recipe = Recipe::host(Level::Process, &[]);
    assert_eq!(recipe.syscalls_allowed(), 0);
    assert!(recipe.to_string().contains("System calls: not filtered at this level"));
    assert!(Recipe::host(Level::Off, &[]).to_string().contains("nothing to confine it"));
}

#[test]
fn layers_are_asked_for_by_name() {
    let mut recipe = Recipe::host(Level::Seccomp, &[]);
    recipe.require("landlock".parse().unwrap()).unwrap();
    assert!(recipe.layer(LayerName::Landlock).unwrap().required);
    recipe.allow_missing("user".parse().unwrap()).unwrap();
    assert!(!recipe.layer(LayerName::User).unwrap().required);
    assert!(recipe.to_string().contains("required, as asked"));
    assert!(recipe.to_string().contains("may be missing, as asked"));
    let error = "moat".parse::<LayerName>().unwrap_err().to_string();
    assert!(error.contains("`moat`") && error.contains("landlock"), "{error}");
    let error = Recipe::host(Level::Process, &[]).require(LayerName::Filter).unwrap_err().to_string();
    assert_eq!(error, "sandbox level `process` has no layer `filter`");
}

#[test]
fn layers_are_applied_in_the_order_that_is_told() {
    let recipe = Recipe::host(Level::Seccomp, &[]);
    assert!(recipe.layers.iter().map(|layer| layer.name).eq(LayerName::ALL));
}

//! An easel: what the guest puts into its memory, four pixels, it shows as a picture.

use cofferdam_plugin::*;

state! { struct State { unused: u8 } }

struct Easel {
    pixels: GuestMemory,
    picture: Scanout,
}

impl Device for Easel {
    type State = State;

    fn manifest(_: &Options) -> Result<Manifest, Refusal> {
        let manifest = Manifest { class: Class::Display, ..Manifest::new("easel", "what direct ranges and scanouts are for") };
        Ok(manifest
            .range(Range::memory("canvas", 0xfed1_0000, 0x1000))
            .wish(Wish::direct(0, "pixels", "the guest draws there"))
            .wish(Wish::new(Power::Scanout, "picture", "people look at it")))
    }
    fn attach(_: &Options, powers: &mut Powers) -> Result<Easel, Refusal> {
        Ok(Easel { pixels: powers.direct("pixels")?, picture: powers.scanout("picture")? })
    }
    fn refresh(&mut self, _: &mut State, _: u64) {
        let mut bytes = [0; 16];
        let drawing = self.picture.begin(4, 1);
        if self.pixels.read(0, &mut bytes).is_ok() {
            let row: [u32; 4] = std::array::from_fn(|at| Plain::load(&bytes[4 * at..]));
            drawing.row(0, &row);
        }
        drawing.finish();
    }
}

run!(Easel);

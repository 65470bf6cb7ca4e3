//! What a mouse does, in words.

use crate::args::usage;
use anyhow::Result;
use schema::display::{Input, Pointer};

/// The farthest that it is moved at once: across the widest picture.
const FAR_MAX: i32 = 4096;
/// The most that its wheel is turned at once.
const TURNS_MAX: u32 = 100;
/// Its buttons, from bit 0 on.
const BUTTONS: [&str; 3] = ["left", "right", "middle"];

/// Moves it by `X,Y`: to the right and down.
pub fn of_motion(words: &str) -> Result<Vec<Input>> {
    let far = |word: &str| word.trim().parse().ok().filter(|far: &i32| far.abs() <= FAR_MAX);
    let (mut dx, mut dy) = words.split_once(',').and_then(|(x, y)| Some((far(x)?, far(y)?))).ok_or_else(|| {
        usage!("sendmouse: `{words}` is no motion; give X,Y, of -{FAR_MAX} to {FAR_MAX} each, such as 20,-5")
    })?;
    let mut inputs = Vec::new();
    while (dx, dy) != (0, 0) {
        let (x, y) = (step(&mut dx), step(&mut dy));
        inputs.push(Input::Pointer(Pointer { dx: x, dy: y, ..Pointer::default() }));
    }
    Ok(inputs)
}

/// Presses a button and lets it go.
pub fn of_click(button: &str) -> Result<Vec<Input>> {
    let bit = BUTTONS
        .iter()
        .position(|name| *name == button)
        .ok_or_else(|| usage!("sendmouse: a mouse has no button `{button}`; there are {}", BUTTONS.join(", ")))?;
    let buttons = |buttons| Input::Pointer(Pointer { buttons, ..Pointer::default() });
    Ok(vec![buttons(1 << bit), buttons(0)])
}

/// Turns the wheel, towards the person where `turns` is positive.
pub fn of_turns(turns: i32) -> Result<Vec<Input>> {
    if turns.unsigned_abs() > TURNS_MAX {
        return Err(usage!("sendmouse: --wheel {turns} is too far; give -{TURNS_MAX} to {TURNS_MAX}"));
    }
    let turn = Input::Pointer(Pointer { wheel: turns.signum() as i8, ..Pointer::default() });
    Ok(vec![turn; turns.unsigned_abs() as usize])
}

/// As much of a motion as one record holds.
fn step(left: &mut i32) -> i8 {
    let step = (*left).clamp(-i32::from(i8::MAX), i8::MAX.into());
    *left -= step;
    step as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_mouse_does_is_refused_in_a_sentence() {
        for words in ["", "1", "1,", "a,b", "1,2,3", "4097,0", "0,-99999999999"] {
            assert!(of_motion(words).unwrap_err().to_string().contains("give X,Y"), "{words}");
        }
        assert!(of_click("third").unwrap_err().to_string().contains("there are left, right, middle"));
        assert!(of_turns(101).is_err() && of_turns(i32::MIN).is_err());
    }

    #[test]
    fn a_long_way_is_gone_in_steps_that_add_up() {
        for (x, y) in [(0, 0), (1, -1), (127, -128), (-4096, 4096)] {
            let steps = of_motion(&format!("{x},{y}")).unwrap();
            let gone = steps.iter().fold((0, 0), |(left, down), input| match input {
                Input::Pointer(Pointer { dx, dy, wheel: 0, buttons: 0 }) => {
                    (left + i32::from(*dx), down + i32::from(*dy))
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(gone, (x, y));
        }
    }

    #[test]
    fn a_button_is_let_go_and_a_wheel_turns_step_by_step() {
        let pointer = |wheel, buttons| Input::Pointer(Pointer { wheel, buttons, ..Pointer::default() });
        assert_eq!(of_click("middle").unwrap(), [pointer(0, 4), pointer(0, 0)]);
        assert_eq!(of_turns(-2).unwrap(), [pointer(-1, 0), pointer(-1, 0)]);
        assert_eq!(of_turns(0).unwrap(), []);
    }
}

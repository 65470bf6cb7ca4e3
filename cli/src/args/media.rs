//! The flags of the commands for media.

use clap::Args as ClapArgs;

#[derive(ClapArgs)]
pub struct EjectArgs {
    /// The virtual machine, as `cofferdam ps` names it.
    pub name: String,
    /// The drive: floppy0, floppy1, cdrom0 and so on, as they were given.
    pub drive: String,
    /// Take the medium out though the guest holds it.
    #[arg(long)]
    pub force: bool,
}

#[derive(ClapArgs)]
pub struct InsertArgs {
    /// The virtual machine, as `cofferdam ps` names it.
    pub name: String,
    /// The drive: floppy0, floppy1, cdrom0 and so on, as they were given.
    pub drive: String,
    /// The medium's image. `PATH,readonly` to only read it.
    #[arg(value_name = "PATH[,readonly]")]
    pub image: String,
    /// Take out the medium that is there though the guest holds it.
    #[arg(long)]
    pub force: bool,
}

//! `completions` and `man`, made of the table of arguments.

use super::args::Cli;
use super::output::{print, write};
use super::Failure;
use clap::CommandFactory;
use std::path::Path;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "heaptape", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(dir: &Path, force: bool) -> Result<(), Failure> {
    if !dir.is_dir() {
        return Err(Failure::Failed(format!(
            "{} is no folder; make it first",
            dir.display()
        )));
    }
    let mut root = Cli::command();
    // Names of subcommands (`heaptape-snapshot`) are only known once the table is built.
    root.build();
    page(&root, "heaptape", dir, force)?;
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("heaptape-{}", command.get_name());
        page(&command.clone().name(name.clone()), &name, dir, force)?;
    }
    Ok(())
}

fn page(command: &clap::Command, name: &str, dir: &Path, force: bool) -> Result<(), Failure> {
    let path = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Failure::writing(&path.display().to_string(), &error))?;
    write(&path, &page, force)
}

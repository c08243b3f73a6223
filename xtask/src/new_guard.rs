//! `new-guard NAME`: the folder of a new guard with every file of its shape, its tests failing until it does something.
//!
//! It writes the folder and the three lists it must stand on; where on the path it stands is a decision, so it is added at
//! the end and printed.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::process::root;

/// Options of `new-guard`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Its one name: folder, config key, metric prefix, explain row, docs anchor. Lower case and underscores.
    name: String,
}

const FILES: [(&str, &str); 4] = [
    ("mod.rs", include_str!("new_guard/mod.rs.txt")),
    ("config.rs", include_str!("new_guard/config.rs.txt")),
    ("decide.rs", include_str!("new_guard/decide.rs.txt")),
    ("tests.rs", include_str!("new_guard/tests.rs.txt")),
];

/// The command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    make(&root().join("crates/guards/src"), &arguments.name)?;
    println!("made crates/guards/src/{}; now:", arguments.name);
    println!("  1. move its row in request_path.rs to where it belongs, and say in its needs() and gives() why");
    println!("  2. write the header of mod.rs; the reference page is made from it (cargo xtask gen)");
    println!("  3. decide in decide.rs, and hold it in tests.rs");
    println!("  4. cargo xtask test");
    Ok(())
}

fn make(guards: &Path, name: &str) -> anyhow::Result<()> {
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    ensure!(is_name, "`{name}` is no name for a guard: lower case letters, digits and underscores");
    let folder = guards.join(name);
    if folder.exists() {
        bail!("{} is there already", folder.display());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (file, template) in FILES {
        let text = template.replace("@name@", name).replace("@Name@", &camel(name));
        std::fs::write(folder.join(file), text)?;
    }
    insert_before(&guards.join("lib.rs"), "pub mod access_log;", &format!("pub mod {name};\n"))?;
    let row = format!("    Room {{ name: \"{name}\", source: include_str!(\"{name}/mod.rs\"), metrics: &[] }},\n");
    insert_before(&guards.join("all.rs"), "];", &row)?;
    insert_before(
        &guards.join("request_path.rs"),
        "    );\n",
        &format!("        crate::{name}::build(config, ground),\n"),
    )?;
    let key = format!("    /// What the `{name}` guard is told.\n    pub {name}: crate::{name}::Config,\n");
    insert_before(&guards.join("config.rs"), "    /// The breakers of the upstreams", &key)
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1.min(word.len())].to_uppercase() + word.get(1..).unwrap_or_default()).collect()
}

fn insert_before(path: &Path, anchor: &str, text: &str) -> anyhow::Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let at = old.find(anchor).with_context(|| format!("{} has no `{}` any more", path.display(), anchor.trim()))?;
    std::fs::write(path, format!("{}{text}{}", &old[..at], &old[at..]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::{camel, make};
    use crate::process::root;

    #[test]
    fn names_become_types() {
        assert_eq!(camel("rate_limit"), "RateLimit");
        assert_eq!(camel("a"), "A");
    }

    #[test]
    fn a_new_guard_compiles_where_it_stands_and_its_tests_pass() {
        let copy = root().join("target/new-guard");
        let _ = std::fs::remove_dir_all(&copy);
        for part in ["Cargo.toml", "Cargo.lock", "crates", "xtask", "bench", "examples"] {
            copy_all(&root().join(part), &copy.join(part));
        }
        let guards = copy.join("crates/guards/src");
        make(&guards, "new_thing").expect("a fresh name is taken");
        assert!(make(&guards, "new_thing").is_err(), "a second time is refused");
        assert!(make(&guards, "New-Thing").is_err(), "a bad name is refused");
        let output = Command::new("cargo")
            .args(["test", "--offline", "-p", "portcullis-guards", "--lib", "new_thing"])
            .env("CARGO_TARGET_DIR", root().join("target/new-guard-target"))
            .current_dir(&copy)
            .output()
            .expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains(" 0 passed"), "{said}");
    }

    fn copy_all(from: &Path, to: &Path) {
        if from.is_dir() {
            for entry in std::fs::read_dir(from).expect("readable") {
                let entry = entry.expect("readable").path();
                if !entry.ends_with("target") {
                    copy_all(&entry, &to.join(entry.file_name().expect("a name")));
                }
            }
        } else {
            std::fs::create_dir_all(to.parent().expect("a parent")).expect("writable");
            std::fs::copy(from, to).expect("copied");
        }
    }
}

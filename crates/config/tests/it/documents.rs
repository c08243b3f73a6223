//! The example and the reference: complete, and true.

use portcullis_config::{Example, FixedEnvironment, effective_value, example, reference};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sample::{Config, read_in};

fn world() -> FixedEnvironment {
    FixedEnvironment::new().with_every_file("pretend")
}

/// Every `#key` of an example without its `#`.
fn uncommented(example: &str) -> String {
    let lines = example.lines().map(|line| {
        let text = line.trim_start();
        match text.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => line.replacen('#', "", 1),
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn examples_read_without_mistakes_in_every_form() {
    let commented = example::<Config>(Example::Commented);
    let full = example::<Config>(Example::Full);
    for (form, text) in [("commented", &commented), ("uncommented", &uncommented(&commented)), ("full", &full)] {
        if let Err(mistakes) = read_in(text, &world()) {
            panic!("{form}:\n{mistakes}\n{text}");
        }
    }
}

#[test]
fn a_commented_example_sets_what_is_required_and_what_an_example_of_the_whole_sets() {
    let shown = effective_value(&read_in(&example::<Config>(Example::Commented), &world()).unwrap());
    assert_eq!(shown, serde_json::to_value(Config::default()).unwrap());

    /// With an example of its own.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[schemars(extend("examples" = [{ "place": "here", "inner": { "b": 4 } }]))]
    struct Whole {
        /// Where.
        place: String,
        #[serde(default)]
        inner: Inner,
        other: Option<u8>,
    }
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Inner {
        a: u8,
        b: u8,
    }
    assert_eq!(
        example::<Whole>(Example::Commented),
        "\
# Keys that are commented out as `#key` show their default, or an example where there is none.

# Where.
# (text; required)
place: here

# (mapping)
inner:
  # (whole number; 0 to 255; default 0)
  #a: 0
  # (whole number; 0 to 255; default 0)
  b: 4

# (whole number; 0 to 255)
#other: 1
"
    );
}

#[test]
fn the_example_tells_every_key() {
    let text = example::<Config>(Example::Full);
    for expected in [
        "# Version of this format.\n# (whole number; 1 to 1; default 1)\nversion: 1\n",
        "  # The largest body.\n  # (size; default 1MiB)\n  body_bytes: 1MiB\n",
        "  # How many workers.\n  # (whole number; 1 to 64; default 2)\n  workers: 2\n",
        "#   `production`: Strict.\n",
        "    password: \"${file:/run/secrets/password}\"\n",
        "  -\n    # Its name in metrics.\n    # (text; 1 to 8 characters; required)\n    name: text\n",
        "        limit: 200/10s\n",
        "        by: [user]\n",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
}

#[test]
fn the_reference_tells_every_key() {
    let text = reference::<Config>();
    for expected in [
        "## Top level\n\nEverything in one place.\n\n| key | type | default | bounds | what it does |\n|---|---|---|---|---|\n",
        "| `version` | whole number | `1` | 1 to 1 | Version of this format. |\n",
        "| `preset` | `production` \\| `development` | `production` |  | Which defaults to begin with.<br>`production`: Strict.<br>`development`: Talkative. |\n",
        "| `hide_version` | bool | `false` |  | Whether to hide \\| the version. |\n",
        "| `limits` | mapping | see below |  | Bounds of a request. |\n",
        "## `limits`\n",
        "| `first_byte` | duration | none |  | Wait before the first answer. |\n",
        "| `upstreams` | mapping of name to text or mapping | `{}` |  | Who answers requests, by name. |\n",
        "## `upstreams.<name>`\n",
        "| `password` | secret text | none |  | Password for it. |\n",
        "## `routes[]`\n",
        "| `name` | text | required | 1 to 8 characters | Its name in metrics. |\n",
        "| `paths` | list of text | `[]` | each once | The paths it takes. |\n",
        "## `routes[].rate_limit[]`\n",
        "| `limit` | rate | required |  |",
        "## `routes[].rate_limit[].algorithm`, form 2 of 2\n\nCounts in two windows.\n",
        "## `routes[].on_outage.serve`\n",
        "## `store`\n",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
}

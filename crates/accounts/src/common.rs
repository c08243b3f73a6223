//! Passwords that many people have: told by what they are made of, so that a short list of words covers what no list can hold.
//!
//! Leaked lists are mostly the same few hundred words with digits around them, doubled, or with `0` for `o`; keyboard rows;
//! sequences; years. A password is split into as few such pieces as possible: each word, run, year or repetition counts one,
//! and so does every other character. What comes to fewer than [`FEWEST_PIECES`] is one that a guesser tries first, however
//! long it is. This is no composition rule: any password of unrelated words or letters passes.
//!
//! Invariant: the answer depends on the password and the words alone, and takes time bounded by the password's length.

use std::collections::HashSet;
use std::sync::LazyLock;

/// A password of fewer pieces is common.
pub const FEWEST_PIECES: usize = 6;
/// Characters of a password that are looked at; a longer one is as good as its beginning.
const MOST_LOOKED_AT: usize = 256;
const LONGEST_WORD: usize = 16;
const SHORTEST_RUN: usize = 3;

/// Words of the lists of most used passwords that have been published over the years, without digits, in lower case. Kept by
/// hand; the forms with digits, capitals and look-alikes follow from them.
const WORDS: &str = "
aaa abc abcd abcdef access account adidas admin administrator alex alexander alexis alpha america amanda andrea andrew angel
angela angels animal anna anthony antonio apple april arsenal asdf asdfgh asdfghjkl ashley asshole august austin autumn baby
babygirl bailey banana barcelona baseball basketball batman beach bear beautiful benjamin berlin best bigdog bitch black blink
blessed blue boston brandon brazil brian british brother buddy bulldog burger business buster butter butterfly calvin camaro
canada captain carlos carmen caroline casper champion change changeme changeit charles charlie charlotte cheese chelsea cherry
chester chicago chicken china chocolate chris christ christian christina christine christmas cisco claudia coffee college
comcast company compaq computer connect cookie cooper corvette country cowboy cowboys crystal customer dallas daniel daniela
danielle david death december default demo dennis denver diablo diamond dick digital dog dolphin donald dragon driver eagle
eagles easy edward elephant elizabeth email emily empire enter eric estrella everton facebook family fender ferrari first
fish flower flowers football forever france frank freddy free freedom friday friend friends fuck fucker fuckyou gabriel game gandalf
garfield garden general genesis george germany ginger girl girls giants global god golden golfer good google gordon great green
guest guitar hacker hammer hannah happy harley heart heather heaven hello help hello helpme henry hockey home honda honey
hotmail house hunter iceman iloveu iloveyou internet ireland isabella italy jackie jackson jaguar jake james january jasmine
jason jasper jennifer jeremy jessica jesus john johnny johnson jonathan jordan joseph joshua juice july june junior justin
justice karen katie kelly kevin killer king kings kitten kitty knight lakers lauren leather legend letmein letme liberty life
lisa little liverpool login london looking lord love lovely lover loveme loveyou lucky luis maggie magic manager manchester marco
marcus maria marina mario marlboro martin marvin master matrix matthew maverick melissa memory mercedes mexico michael michelle
mickey microsoft midnight miguel mike miller minecraft mine monday money monica monkey monster morgan mother motorola mountain
music mustang mybaby myspace naruto nascar natasha nathan newyork nicholas nicole nintendo nirvana nissan nothing november number
october officer ohio oliver online open orange oracle pakistan panther paris pass passport passwd password passw pascal patrick
peace peanut pepper person peter phoenix phone please pokemon police pookie porsche portcullis power prince princess private
public purple pussy qazwsx qazwsxedc qwerty qwert qwertyuiop rabbit rachel raiders rainbow ranger rangers raymond realmadrid
rebecca red redskins remember richard ricardo robert rocket rockstar rockyou roman ronaldo root rosebud runner russia sabrina
samantha sammy samsung sandra saturday scooter scorpion scott secret secure security september server service sexy shadow
shannon shelby sierra silver simple single sister skippy slayer smile smith snoopy snowball soccer sophie spain spanky sparky
spider spiderman spring star stars starwars station stella steven strong student success sugar summer sun sunday sunflower
sunset sunshine super superman superstar support sweet sweety sydney system taylor tennis teresa test testing texas the thomas
thunder thursday tiffany tiger tigers tigger time tinkerbell tomcat toor toyota travis trinity trouble trust trustno tuesday
turtle twitter united user username valentina vampire vanessa victor victoria vincent viper virginia volcom wallpaper warrior
water wednesday welcome wel whatever white wicked william williams willow windows winner winston winter wizard wolf wolves
wonder work world xavier yamaha yankee yankees year yellow you young your zaq zaqwsx zxcv zxcvbn zxcvbnm zoe
";

/// Rows that fingers run along, each in both directions.
const ROWS: [&str; 8] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "azertyuiop",
    "!@#$%^&*()_+",
];

/// Columns of a keyboard that fingers run down.
const COLUMNS: [&str; 6] = [
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "qazwsxedcrfvtgbyhnujm",
    "zaqxswcdevfrbgtnhymju",
    "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "147258369",
];

static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| WORDS.split_whitespace().collect());

/// Whether `password`, normalised, is one that guessers try first. `context` are further words, in lower case.
#[must_use]
pub fn is_common(password: &str, context: &[String]) -> bool {
    let lower: Vec<char> = password.chars().flat_map(char::to_lowercase).take(MOST_LOOKED_AT).collect();
    let plain: Vec<char> = lower.iter().map(|letter| looks_like(*letter)).collect();
    pieces(&lower, &plain, context) < FEWEST_PIECES
}

/// The fewest pieces that the text can be split into.
fn pieces(lower: &[char], plain: &[char], context: &[String]) -> usize {
    let count = lower.len();
    // fewest[i]: of the first i characters.
    let mut fewest = vec![usize::MAX; count + 1];
    fewest[0] = 0;
    for from in 0..count {
        let next = fewest[from] + 1;
        let longest = longest_piece(lower, plain, from, context).max(1);
        for to in &mut fewest[from + 1..=from + longest] {
            *to = next.min(*to);
        }
    }
    fewest[count]
}

/// The longest piece that begins at `from`, in characters. Every shorter one is a piece as well, or as good as one.
fn longest_piece(lower: &[char], plain: &[char], from: usize, context: &[String]) -> usize {
    let rest = &lower[from..];
    let repeated = repeated(lower, from);
    let word = longest_word(&plain[from..], context).max(longest_word(rest, context));
    [run(rest), row(rest), year(rest), repeated, word].into_iter().max().unwrap_or(1)
}

fn longest_word(rest: &[char], context: &[String]) -> usize {
    let longest = rest.len().min(LONGEST_WORD);
    let text: String = rest[..longest].iter().collect();
    let ends = text.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let known = ends.enumerate().filter(|(_, end)| KNOWN.contains(&text[..*end])).map(|(place, _)| place + 1).last();
    let whole: String = rest.iter().collect();
    let of_context = context.iter().filter(|word| whole.starts_with(word.as_str())).map(|word| word.chars().count());
    known.into_iter().chain(of_context).max().unwrap_or(0)
}

/// The same character again and again.
fn run(rest: &[char]) -> usize {
    rest.iter().take_while(|letter| **letter == rest[0]).count()
}

/// A run along a row or column of the keyboard, or along the alphabet or the digits.
fn row(rest: &[char]) -> usize {
    let along = |row: &str| {
        let row: Vec<char> = row.chars().collect();
        let backwards: Vec<char> = row.iter().rev().copied().collect();
        [row, backwards]
            .iter()
            .map(|row| {
                let starts = row.iter().enumerate().filter(|(_, letter)| **letter == rest[0]);
                starts
                    .map(|(at, _)| row[at..].iter().zip(rest).take_while(|(one, two)| one == two).count())
                    .max()
                    .unwrap_or(0)
            })
            .max()
            .unwrap_or(0)
    };
    let longest = ROWS.iter().chain(&COLUMNS).map(|row| along(row)).max().unwrap_or(0);
    if longest >= SHORTEST_RUN { longest } else { 0 }
}

fn year(rest: &[char]) -> usize {
    let digits: String = rest.iter().take(4).collect();
    let is_year = digits.len() == 4 && digits.parse::<u16>().is_ok_and(|year| (1900..=2099).contains(&year));
    if is_year { 4 } else { 0 }
}

/// What stands at `from` and stood right before it already: the second half of `abcabc`.
fn repeated(lower: &[char], from: usize) -> usize {
    let longest = from.min(lower.len() - from);
    (2..=longest).rev().find(|length| lower[from - length..from] == lower[from..from + length]).unwrap_or(0)
}

/// The letter that a look-alike stands for.
fn looks_like(letter: char) -> char {
    match letter {
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' | '+' => 't',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(password: &str) -> bool {
        is_common(password, &["annika".to_owned()])
    }

    /// Row 110: long forms of what stands at the top of published lists.
    #[test]
    fn row_110_what_guessers_try_first_is_common_however_long() {
        for password in [
            "passwordpassword",
            "Password1234567",
            "password12345678",
            "P@ssw0rdP@ssw0rd!",
            "qwertyuiop123456",
            "1qaz2wsx3edc4rfv",
            "1q2w3e4r5t6y7u8i",
            "123456789012345",
            "1234567890123456",
            "987654321987654321",
            "aaaaaaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "iloveyouiloveyou",
            "letmeinletmein2024",
            "WelcomeWelcome1!",
            "changemechangeme",
            "administrator2025",
            "qwertyqwerty12345",
            "asdfghjklzxcvbnm",
            "Summer2024!!!!!!",
            "abcdefghijklmnopqrstuvwxyz",
            "annikaannika1990",
            "trustno1trustno1",
            "",
        ] {
            assert!(is(password), "{password}");
        }
    }

    #[test]
    fn what_has_something_of_its_own_is_not() {
        for password in [
            "correct horse battery staple",
            "my dog has fleas, poor thing",
            "Zv9#kQ2!mR7xLp4w",
            "vier gelbe Boote im Hafen",
            "kvxqjwzrtbnmpdg",
            "d41d8cd98f00b204",
            "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{9577}\u{3044}\u{5408}\u{8a00}\u{8449}\u{3067}\u{3059}\u{3088}\u{306d}\u{3048}\u{3002}",
        ] {
            assert!(!is(password), "{password}");
        }
    }

    #[test]
    fn the_longest_password_takes_no_time_worth_naming() {
        for letter in ['a', '\u{1f511}', '1'] {
            let _ = is(&letter.to_string().repeat(1024));
        }
        assert!(is(&"a".repeat(1024)));
    }
}

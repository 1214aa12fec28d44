package javascript

import "testing"

func TestPropertiesInRegularExpressions(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		`/^\p{L}+$/u.test('Éaß')`:                        `true`,
		`/^\p{Lu}/u.test('é')`:                           `false`,
		`'a1é-٣ß'.replace(/\P{Letter}/gu, '')`:           `"aéß"`,
		`'a1é٣'.match(/[\p{Nd}x]/gu)`:                    `["1","٣"]`,
		`'aβ1'.match(/[^\P{Script=Greek}]/gu)`:           `["β"]`,
		`/^[\p{L}\p{N}_-]+$/u.test('Zähler_1')`:          `true`,
		`/\p{White_Space}/u.test('a b')`:                 `true`,
		`/\\p{L}/u.test('\\p{L}')`:                       `true`,
		`/[[\]\p{Lu}]/u.exec('a]B')[0]`:                  `"]"`,
		`/\p{gc=Lowercase_Letter}\u{1F600}/u.test('a😀')`: `true`,
		`/p{2}/.test('pp')`:                              `true`,
	} {
		if got := evaluate(t, expression); got != want {
			t.Errorf("%s: got %s, want %s", expression, got, want)
		}
	}
}

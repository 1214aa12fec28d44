package v3

import "testing"

func TestTooDeepCountsBracketsOutsideOfStrings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		``: false, `1`: false, `[{}]`: false, `{"a":[{"b":1}]}`: true, `[[],[],[[]]]`: true, `[[],[],[]]`: false,
		`["[[["]`: false, `{"\"[":"\\"}`: false, `{"\\":[[]]}`: true, `"\`: false, `[[[`: true, `]]][[[[[[`: true,
	} {
		if got := TooDeep([]byte(text), 2); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

package javascript

import (
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/dop251/goja/ast"
)

// expandProperties writes out the classes \p{…} of regular expressions in a program, which the interpreter does not know. Those of a RegExp that is made
// of a text stay as they are, and so do names that Go's tables don't have.
func expandProperties(program *ast.Program) {
	walk(reflect.ValueOf(program), func(node any) bool {
		if r, ok := node.(*ast.RegExpLiteral); ok && strings.Contains(r.Flags, "u") {
			r.Pattern = withoutProperties(r.Pattern)
		}
		return true
	})
}

// withoutProperties gives a pattern with ranges in place of \p{…} and \P{…}.
func withoutProperties(pattern string) string {
	var out strings.Builder
	class := false // between [ and ]
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && i+1 < len(pattern):
			ranges, length := property(pattern[i:])
			if length == 0 {
				out.WriteString(pattern[i : i+2])
				i++
				continue
			}
			if class {
				out.WriteString(ranges)
			} else {
				out.WriteString("[" + ranges + "]")
			}
			i += length - 1
			continue
		case c == '[':
			class = true
		case c == ']':
			class = false
		}
		out.WriteByte(pattern[i])
	}
	return out.String()
}

// property reads \p{…} or \P{…} at the beginning of a pattern; length 0 if there is none that is known.
func property(pattern string) (ranges string, length int) {
	if !strings.HasPrefix(pattern, `\p{`) && !strings.HasPrefix(pattern, `\P{`) {
		return "", 0
	}
	end := strings.IndexByte(pattern, '}')
	if end < 0 {
		return "", 0
	}
	table := propertyTable(pattern[len(`\p{`):end])
	if table == nil {
		return "", 0
	}
	return rangesOf(table, pattern[1] == 'P'), end + 1
}

func propertyTable(name string) *unicode.RangeTable {
	key, value, hasValue := strings.Cut(name, "=")
	if hasValue {
		switch key {
		case "Script", "sc", "Script_Extensions", "scx":
			return unicode.Scripts[value]
		case "General_Category", "gc":
			return category(value)
		}
		return nil
	}
	if t := category(name); t != nil {
		return t
	}
	return unicode.Properties[name]
}

func category(name string) *unicode.RangeTable {
	if short, ok := unicode.CategoryAliases[name]; ok {
		name = short
	}
	return unicode.Categories[name]
}

// rangesOf writes a table, or all that is not in it, as the inside of a class.
func rangesOf(t *unicode.RangeTable, inverse bool) string {
	var out strings.Builder
	write := func(low, high rune) {
		if low <= high {
			out.WriteString(`\u{` + strconv.FormatInt(int64(low), 16) + `}-\u{` + strconv.FormatInt(int64(high), 16) + `}`)
		}
	}
	next := rune(0) // the first that was not looked at
	each(t, func(low, high rune) {
		if inverse {
			write(next, low-1)
		} else {
			write(low, high)
		}
		next = high + 1
	})
	if inverse {
		write(next, unicode.MaxRune)
	}
	return out.String()
}

// each calls f for the ranges of a table in order.
func each(t *unicode.RangeTable, f func(low, high rune)) {
	split := func(low, high, stride rune) {
		if stride == 1 {
			f(low, high)
			return
		}
		for r := low; r <= high; r += stride {
			f(r, r)
		}
	}
	for _, r := range t.R16 {
		split(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
	for _, r := range t.R32 {
		split(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
}

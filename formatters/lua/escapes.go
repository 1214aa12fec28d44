package lua

import (
	"fmt"
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

// lineStarts gives the offset of each line. As for the scanner, a line ends with \n, \r, \r\n or \n\r.
func lineStarts(source string) []int {
	starts := []int{0}
	for i := 0; i < len(source); i++ {
		if c := source[i]; c == '\n' || c == '\r' {
			if i+1 < len(source) && (source[i+1] == '\n' || source[i+1] == '\r') && source[i+1] != c {
				i++
			}
			starts = append(starts, i+1)
		}
	}
	return starts
}

// rewriteEscapes makes "\171" of "\xab" in the string that is token t: Lua 5.1 would silently take it for "xab", and Lua 5.2 and later for a byte.
// Both have four characters, so that no position changes. Other escapes that came later are refused.
func rewriteEscapes(source []byte, starts []int, t ast.Token) error {
	at := starts[t.Pos.Line-1] + t.Pos.Column - 1
	quote := source[at]
	if quote == '[' {
		return nil // a long string has no escapes
	}
	for i := at + 1; source[i] != quote; i++ {
		if source[i] != '\\' {
			continue
		}
		i++
		switch source[i] {
		case 'x':
			n, err := strconv.ParseUint(string(source[i+1:min(i+3, len(source))]), 16, 8)
			if err != nil {
				return compileError(t.Pos.Line, `\x in a string needs two hexadecimal digits, such as \x0a`)
			}
			copy(source[i:], fmt.Sprintf("%03d", n))
		case 'z', 'u':
			return compileError(t.Pos.Line, `\%c in a string is of Lua 5.3; this is Lua 5.1: write \n, \x0a or \10`, source[i])
		}
	}
	return nil
}

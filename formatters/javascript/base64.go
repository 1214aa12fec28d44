package javascript

import (
	"encoding/base64"
	"strings"

	"github.com/dop251/goja"
)

// atob decodes base64 to a string of one character a byte, as browsers do.
func (c *call) atob(call goja.FunctionCall) goja.Value {
	text := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\n\f\r", r) {
			return -1
		}
		return r
	}, call.Argument(0).String())
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		panic(c.vm.NewTypeError("atob: not base64"))
	}
	out := make([]rune, len(raw))
	for i, b := range raw {
		out[i] = rune(b)
	}
	return c.vm.ToValue(string(out))
}

// btoa encodes a string of characters up to U+00FF.
func (c *call) btoa(call goja.FunctionCall) goja.Value {
	text := call.Argument(0).String()
	raw := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			panic(c.vm.NewTypeError("btoa: characters beyond U+00FF"))
		}
		raw = append(raw, byte(r))
	}
	return c.vm.ToValue(base64.StdEncoding.EncodeToString(raw))
}

package javascript

import (
	"encoding/json"
	"strconv"
	"strings"

	"lorikeet/messages"
)

// maxDepth of objects and arrays in a result: readers of JSON have limits of their own.
const maxDepth = 32

// decodedOf reads the lines of prelude.js: "decoded", the data, their warnings and, if there is normalizeUplink, its warnings and one measurement a line.
func decodedOf(lines []string) (messages.Decoded, error) {
	if len(lines) < 3 || lines[0] != "decoded" {
		return messages.Decoded{}, refusalOf(lines)
	}
	var d messages.Decoded
	var err error
	if d.Data, err = objectOf("data", lines[1]); err != nil {
		return messages.Decoded{}, err
	}
	if d.Warnings, err = textsOf(lines[2]); err != nil {
		return messages.Decoded{}, err
	}
	if len(lines) == 3 {
		return d, nil
	}
	if d.NormalizedWarnings, err = textsOf(lines[3]); err != nil {
		return messages.Decoded{}, err
	}
	size := len(d.Data)
	for _, line := range lines[4:] {
		one, err := objectOf("normalizeUplink: data", line)
		if err != nil {
			return messages.Decoded{}, err
		}
		if size += len(one); size > messages.MaxFormatterOutput {
			return messages.Decoded{}, tooLarge()
		}
		d.Normalized = append(d.Normalized, one)
	}
	return d, nil
}

// encodedOf reads "encoded", the FPort, the bytes and the warnings.
func encodedOf(lines []string) (messages.Encoded, error) {
	if len(lines) != 4 || lines[0] != "encoded" {
		return messages.Encoded{}, refusalOf(lines)
	}
	fPort, err := strconv.ParseUint(lines[1], 10, 8)
	if err != nil {
		return messages.Encoded{}, unreadable()
	}
	var numbers []uint8
	var values []int
	if err := json.Unmarshal([]byte(lines[2]), &values); err != nil {
		return messages.Encoded{}, unreadable()
	}
	for _, v := range values {
		numbers = append(numbers, byte(v))
	}
	warnings, err := textsOf(lines[3])
	return messages.Encoded{Bytes: numbers, FPort: uint8(fPort), Warnings: warnings}, err
}

// refusalOf makes the error of an outcome that is not a result.
func refusalOf(lines []string) error {
	if len(lines) != 2 {
		return unreadable()
	}
	texts, err := textsOf(lines[1])
	if err != nil || len(texts) == 0 {
		return unreadable()
	}
	text := clip(strings.Join(texts, "; "))
	switch lines[0] {
	case "errors":
		return messages.Invalid("formatter_errors", "%s", text)
	case "missing":
		return messages.Invalid("formatter_function_missing", "the script has no function %s: define it", text)
	case "output":
		return messages.Invalid("formatter_output", "%s", text)
	}
	return unreadable()
}

func unreadable() error {
	return messages.Invalid("formatter_output", "the script's output can't be read")
}

func textsOf(line string) ([]string, error) {
	if line == "[]" {
		return nil, nil
	}
	var texts []string
	if err := json.Unmarshal([]byte(line), &texts); err != nil {
		return nil, unreadable()
	}
	return texts, nil
}

// objectOf checks what JSON.stringify gave: toJSON of a script can make it anything.
func objectOf(what, line string) (json.RawMessage, error) {
	switch {
	case !strings.HasPrefix(line, "{"):
		return nil, messages.Invalid("formatter_output", "%s must be an object", what)
	case len(line) > messages.MaxFormatterOutput:
		return nil, tooLarge()
	case depth(line) > maxDepth:
		return nil, messages.Invalid("formatter_output", "%s is nested deeper than %d levels", what, maxDepth)
	}
	return json.RawMessage(line), nil
}

// depth of a valid JSON text.
func depth(text string) int {
	level, deepest, inString := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

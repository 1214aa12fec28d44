// Package normalized checks measurements in the one shape that all devices can be read in: the normalized payload of The Things Stack and the LoRaWAN
// Device Repository. A measurement is a JSON object of groups such as air, soil, wind and position; schema.go has them all, with their units and limits.
package normalized

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"lorikeet/messages"
)

// Check gives a measurement without the members whose values are out of range, with a warning for each of those. Groups that have nothing left are left
// out; the result is nil if all are. Members keep their order and numbers their digits.
//
// A member that the schema doesn't have, one of a wrong type or a text that is no time are errors, unknown_field and field_type: such a measurement is
// not one.
func Check(text json.RawMessage) (valid json.RawMessage, warnings []string, err error) {
	c := checker{dec: json.NewDecoder(bytes.NewReader(text))}
	c.dec.UseNumber()
	if token, err := c.dec.Token(); err != nil || token != json.Delim('{') {
		return nil, nil, messages.Invalid("field_type", "a measurement must be an object")
	}
	if err := c.object(measurement, ""); err != nil {
		return nil, nil, err
	}
	if string(c.out) == "{}" {
		return nil, c.warnings, nil
	}
	return c.out, c.warnings, nil
}

// CheckAll does Check for each of a list. Those with nothing left are left out. Warnings say which measurement they are about, counted from 1.
func CheckAll(measurements []json.RawMessage) (valid []json.RawMessage, warnings []string, err error) {
	for i, m := range measurements {
		checked, soft, err := Check(m)
		if err != nil {
			var e *messages.Error
			if len(measurements) > 1 && errors.As(err, &e) {
				err = messages.Errorf(e.Code, e.Name, "measurement %d: %s", i+1, e.Message)
			}
			return nil, nil, err
		}
		if checked != nil {
			valid = append(valid, checked)
		}
		for _, w := range soft {
			warnings = append(warnings, fmt.Sprintf("measurement %d: %s", i+1, w))
		}
	}
	return valid, warnings, nil
}

type checker struct {
	dec      *json.Decoder
	out      []byte
	warnings []string
}

// object reads members up to the closing brace; the opening one was read.
func (c *checker) object(schema *field, path string) error {
	c.out = append(c.out, '{')
	first := len(c.out)
	for c.dec.More() {
		token, err := c.dec.Token()
		if err != nil {
			return err
		}
		name := token.(string)
		at := name
		if path != "" {
			at = path + "." + name
		}
		member := schema.members[name]
		if member == nil {
			return messages.Invalid("unknown_field", "unknown field `%s`: use one of the normalized payload's fields", at)
		}
		begin := len(c.out)
		if begin > first {
			c.out = append(c.out, ',')
		}
		c.out = append(strconv.AppendQuote(c.out, name), ':')
		kept, err := c.value(member, at)
		if err != nil {
			return err
		}
		if !kept {
			c.out = c.out[:begin]
		}
	}
	if _, err := c.dec.Token(); err != nil {
		return err
	}
	c.out = append(c.out, '}')
	return nil
}

// value says whether the value was kept.
func (c *checker) value(schema *field, path string) (bool, error) {
	if schema.kind == object {
		token, err := c.dec.Token()
		if err != nil || token != json.Delim('{') {
			return false, wrongType(path, "an object")
		}
		begin := len(c.out)
		err = c.object(schema, path)
		return string(c.out[begin:]) != "{}", err
	}
	token, err := c.dec.Token()
	if err != nil {
		return false, err
	}
	switch schema.kind {
	case number:
		n, ok := token.(json.Number)
		if !ok {
			return false, wrongType(path, "a number")
		}
		return c.number(schema, path, n), nil
	case timestamp:
		text, ok := token.(string)
		if _, err := time.Parse(time.RFC3339Nano, text); !ok || err != nil {
			return false, wrongType(path, "a time such as 2026-11-23T10:00:00Z")
		}
		return c.keep(text), nil
	case flag:
		switch token.(type) {
		case bool, string:
			return c.keep(token), nil
		}
		return false, wrongType(path, "a boolean")
	}
	text, ok := token.(string)
	if !ok {
		return false, wrongType(path, "a text")
	}
	if !slices.Contains(schema.words, text) {
		return c.soft("`%s` should be one of %q", path, schema.words), nil
	}
	return c.keep(text), nil
}

func (c *checker) number(schema *field, path string, n json.Number) bool {
	v, err := n.Float64()
	switch {
	case err != nil || math.IsInf(v, 0):
		return c.soft("`%s` is not a finite number", path)
	case v < schema.min:
		return c.soft("`%s` should be equal or greater than `%v`", path, schema.min)
	case schema.exclusive && v >= schema.max:
		return c.soft("`%s` should be less than `%v`", path, schema.max)
	case v > schema.max:
		return c.soft("`%s` should be equal or less than `%v`", path, schema.max)
	}
	c.out = append(c.out, n...)
	return true
}

func (c *checker) keep(v any) bool {
	text, err := json.Marshal(v) // of a string or a bool: can't fail
	c.out = append(c.out, text...)
	return err == nil
}

func (c *checker) soft(format string, args ...any) bool {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
	return false
}

func wrongType(path, want string) error {
	return messages.Invalid("field_type", "invalid field type of `%s`: it must be %s", path, want)
}

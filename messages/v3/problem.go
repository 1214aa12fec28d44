package v3

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// Problem says what is wrong with JSON in its own words rather than those of Go, and in which member; member is "" if that is not known.
func Problem(err error) (member, problem string) {
	var wrongType *json.UnmarshalTypeError
	var wrongTime *time.ParseError
	switch {
	case errors.As(err, &wrongTime), strings.HasPrefix(err.Error(), "Time.UnmarshalJSON"): // the second has no type
		return "", "want a time such as 2024-10-24T10:00:00Z"
	case errors.As(err, &wrongType):
		return strings.TrimPrefix(wrongType.Field, "."), fmt.Sprintf("want %s, got %s", kindOf(wrongType.Type), wrongType.Value)
	}
	return "", strings.TrimPrefix(err.Error(), "json: ")
}

func kindOf(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch kind := t.Kind(); {
	case reflect.PointerTo(t).Implements(textUnmarshaler), kind == reflect.String, kind == reflect.Array:
		return "a string"
	case kind == reflect.Bool:
		return "true or false"
	case kind == reflect.Slice:
		return "a list"
	case kind == reflect.Struct, kind == reflect.Map:
		return "an object"
	case kind == reflect.Float32, kind == reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// plainJSONError is the problem with its member before it.
func plainJSONError(err error) string {
	member, problem := Problem(err)
	if member == "" {
		return problem
	}
	return member + ": " + problem
}

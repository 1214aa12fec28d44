package rest

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lorikeet/messages"
)

// The largest page, and the page of a request without a limit. Both are those of The Things Stack.
const (
	maxLimit     = 1000
	defaultLimit = 100
)

// maxPage times maxLimit fits into 32 bits.
const maxPage = 1_000_000

// orders maps the names that "order" may have to the text an entity is sorted by.
type orders[T any] map[string]func(*T) string

// listed answers with a page of items in the order that the query asks for. X-Total-Count is the number of all items.
func listed[T any](c *call, member string, items []T, by orders[T], show func(*T) (any, error)) error {
	if err := sortBy(items, by, c.QueryParam("order")); err != nil {
		return err
	}
	skip, limit, err := c.page()
	if err != nil {
		return err
	}
	start := min(skip, len(items))
	return answerPage(c, member, items[start:min(start+limit, len(items))], len(items), show)
}

// page reads how many items the query skips, and how many it wants.
func (c *call) page() (skip, limit int, err error) {
	if limit, err = c.count("limit", defaultLimit, maxLimit); err != nil {
		return 0, 0, err
	}
	page, err := c.count("page", 1, maxPage)
	return (page - 1) * limit, limit, err
}

func answerPage[T any](c *call, member string, page []T, total int, show func(*T) (any, error)) error {
	c.Response().Header().Set("X-Total-Count", strconv.Itoa(total))
	shown := make([]any, 0, len(page))
	for i := range page {
		v, err := show(&page[i])
		if err != nil {
			return err
		}
		shown = append(shown, v)
	}
	return c.JSON(http.StatusOK, map[string]any{member: shown})
}

// count reads a number of 1 to most; 0 or nothing gives preset.
func (c *call) count(name string, preset, most int) (int, error) {
	text := c.QueryParam(name)
	if text == "" {
		return preset, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 0 || n > most:
		return 0, messages.Invalid("invalid_"+name, "%s=%s: use a number of 1 to %d", name, shorten(text), most)
	case n == 0:
		return preset, nil
	}
	return n, nil
}

func sortBy[T any](items []T, by orders[T], order string) error {
	if order == "" {
		return nil
	}
	name, descending := strings.CutPrefix(order, "-")
	text, ok := by[name]
	if !ok {
		names := make([]string, 0, len(by))
		for n := range by {
			names = append(names, n)
		}
		slices.Sort(names)
		return messages.Invalid("invalid_order", "order=%s: use one of %s, with - before it for the reverse", shorten(order), strings.Join(names, ", "))
	}
	slices.SortStableFunc(items, func(a, b T) int {
		if descending {
			return cmp.Compare(text(&b), text(&a))
		}
		return cmp.Compare(text(&a), text(&b))
	})
	return nil
}

// timeText sorts as its time does.
func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000")
}

// shownBy gives the function that shows an entity by the query's field mask.
func shownBy[T any](c *call, hide func(tree, *T)) (func(*T) (any, error), error) {
	paths, err := c.readPaths()
	if err != nil {
		return nil, err
	}
	return func(v *T) (any, error) { return masked(v, paths, hide) }, nil
}

// masked gives the fields of an entity that paths name, after hide has taken away what the caller must not see. hide may be nil.
func masked[T any](v *T, paths []string, hide func(tree, *T)) (tree, error) {
	t, err := toTree(v)
	if err != nil {
		return nil, err
	}
	if hide != nil {
		hide(t, v)
	}
	return filter(t, paths), nil
}

// show answers with one entity by the query's field mask.
func show[T any](c *call, v T, hide func(tree, *T)) error {
	paths, err := c.readPaths()
	if err != nil {
		return err
	}
	t, err := masked(&v, paths, hide)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, t)
}

// written answers a write with the fields that were written, or all if the request had no mask.
func written[T any](c *call, v T, paths []string, hide func(tree, *T)) error {
	if paths == nil {
		paths = []string{everything}
	}
	t, err := masked(&v, paths, hide)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, t)
}

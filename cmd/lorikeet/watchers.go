package main

import "sync"

// watchers are told of what happens, and keep nothing. The zero value is ready.
type watchers[T any] struct {
	mu   sync.Mutex
	last int
	fns  map[int]func(T)
}

// watch has fn, which must not block, called for each thing told until cancel is called.
func (w *watchers[T]) watch(fn func(T)) (cancel func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fns == nil {
		w.fns = map[int]func(T){}
	}
	w.last++
	id := w.last
	w.fns[id] = fn
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.fns, id)
	}
}

func (w *watchers[T]) tell(what T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fn := range w.fns {
		fn(what)
	}
}

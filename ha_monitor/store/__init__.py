"""The shared record in Redis: what every instance knows together."""

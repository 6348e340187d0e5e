"""Alert messages: when one is sent, what it says, and the topic it goes to."""
